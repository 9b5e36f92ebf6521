"""The page. Nothing outside this package and app.py knows Gradio."""

import json
import os
from pathlib import Path
from typing import Any

# Gradio reads this when it is imported. It keeps figures of so many requests, and works on them after each one.
os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"

import gradio as gr
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from falcon_runtime.fleet import Fleet
from falcon_runtime.models.choosing import Offer
from falcon_runtime.server import Clients, ServerSettings

from . import about, api, chat, compare, footer, generate, header, instruct, keys, link, models, theme, words
from .controls import Sampling
from .door import Beside, Compressed, Door, refuse_form
from .language import Languages
from .link import Opening
from .markup import mermaid
from .phone import Downloads, PhoneFiles
from .tools import Tools
from .visitors import Visitors

HERE = Path(__file__).parent
KEPT_S = 600
"""How long a file stays that was uploaded and not used: one that is used goes at once."""


def build(
    fleet: Fleet,
    queue_length: int,
    offer: Offer = "all",
    recommended: str | None = None,
    phone_files: PhoneFiles | None = None,
) -> gr.Blocks:
    """The page and its API endpoints, to be launched with `launch_options()`.

    Visitors may switch to the models of `offer`, and download `phone_files`. `recommended` is the name of the catalogue
    model that suits the machine best.
    """
    demo = api.Blocks(title=header.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(60, KEPT_S))
    with demo, words.speaking(words.NOBODYS):
        opening = Opening(demo)
        answering = header.build(opening, fleet, recommended)
        models.build(fleet, offer, recommended, phone_files)
        about.build(fleet)
        keys.build()
        with gr.Row(elem_id="body"):
            with gr.Column(min_width=0), gr.Tabs(elem_id="tabs") as tabs:
                places = {name: gr.Tab(words.say(f"tabs.{name}"), id=name) for name in link.TABS}
            with gr.Column(elem_id="settings", min_width=0) as settings:
                sampling = Sampling(fleet)
        with places["chat"]:
            chat.build(fleet, sampling, opening, settings, offer)
        with places["generate"]:
            generate.build(fleet, sampling, opening)
        with places["instruct"]:
            instruct.build(fleet, sampling, opening)
        with places["compare"]:
            compare.build(fleet, sampling, opening, offer)
        footer.build(opening, fleet, answering)
        opening.restore(tabs, sampling)
        api.build(fleet)
    demo.queue(max_size=queue_length)
    return demo


def launch_options(
    fleet: Fleet,
    settings: ServerSettings,
    clients: Clients,
    api: ASGIApp,
    mcp: bool = True,
    phone_files: PhoneFiles | None = None,
) -> dict[str, Any]:
    """The arguments of `launch()` that belong to the page's looks and behaviour, and to the HTTP API and the
    `phone_files` beside it. With `mcp`, the endpoints are tools, too."""
    assets = f"Object.assign((window.falcon ??= {{}}), {{mermaid: {json.dumps(mermaid())}}})"
    scripts = [assets, *(path.read_text() for path in sorted(HERE.glob("script/*.js")))]
    most = settings.upload_megabytes * 1_000_000
    return {
        "app_kwargs": {
            "middleware": [
                Middleware(Beside, api=api),
                *([Middleware(Downloads, files=phone_files)] if phone_files else []),
                Middleware(Compressed),
                Middleware(Door, scripts=scripts, most=most),
                Middleware(Visitors, allowed=settings, clients=clients),
                Middleware(Tools, fleet=fleet, settings=settings, clients=clients),
                Middleware(Languages, scripts=scripts),
            ],
            "exception_handlers": {RequestValidationError: refuse_form},
        },
        "theme": theme.build(),
        "css_paths": sorted(HERE.glob("style/*.css")),
        "head": "".join(f"<script>{script}</script>" for script in scripts),
        "favicon_path": HERE / "falcon.svg",
        "footer_links": ["api"],
        "ssr_mode": False,
        "run_history": False,
        "quiet": True,
        "enable_monitoring": False,
        "mcp_server": mcp,
        "max_file_size": most,
    }
