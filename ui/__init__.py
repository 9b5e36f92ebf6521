"""The page. Nothing outside this package and app.py knows Gradio."""

from pathlib import Path
from typing import Any

import gradio as gr

from falcon_runtime.fleet import Fleet
from falcon_runtime.models.choosing import Offer

from . import api, chat, compare, footer, generate, header, instruct, link, models, theme
from .controls import Sampling
from .link import Opening

HERE = Path(__file__).parent
WAITING_REQUESTS = 64


def build(fleet: Fleet, offer: Offer = "all", recommended: str | None = None) -> gr.Blocks:
    """The page and its API endpoints, to be launched with `launch_options()`.

    Visitors may switch to the models of `offer`. `recommended` is the name of the catalogue model that suits the
    machine best.
    """
    demo = api.Blocks(title=header.TITLE, analytics_enabled=False, fill_width=True)
    with demo:
        opening = Opening(demo)
        answering = header.build(demo, fleet, recommended)
        models.build(fleet, offer, recommended)
        with gr.Row(elem_id="body"):
            with gr.Column(scale=5, min_width=320), gr.Tabs(elem_id="tabs") as tabs:
                places = [gr.Tab(name.capitalize(), id=name) for name in link.TABS]
            with gr.Column(scale=2, min_width=280):
                sampling = Sampling(fleet)
        with places[0]:
            generate.build(fleet, sampling, opening)
        with places[1]:
            chat.build(fleet, sampling, opening)
        with places[2]:
            instruct.build(fleet, sampling, opening)
        with places[3]:
            compare.build(fleet, sampling, opening, offer)
        opening.restore(tabs, sampling)
        footer.build(demo, fleet, answering)
        api.build(fleet)
    demo.queue(max_size=WAITING_REQUESTS)
    return demo


def launch_options() -> dict[str, Any]:
    """The arguments of `launch()` that belong to the page's looks and behaviour."""
    return {
        "theme": theme.build(),
        "css_paths": sorted(HERE.glob("style/*.css")),
        "head": "".join(f"<script>{path.read_text()}</script>" for path in sorted(HERE.glob("script/*.js"))),
        "favicon_path": HERE / "falcon.svg",
        "footer_links": ["api"],
        "ssr_mode": False,
        "run_history": False,
        "quiet": True,
    }
