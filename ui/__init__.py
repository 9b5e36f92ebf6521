"""The page. Nothing outside this package and app.py knows Gradio."""

from pathlib import Path
from typing import Any

import gradio as gr

from falcon_runtime import FalconRuntime

from . import api, chat, controls, footer, generate, header, instruct, theme

HERE = Path(__file__).parent
WAITING_REQUESTS = 64


def build(runtime: FalconRuntime) -> gr.Blocks:
    """The page and its API endpoints, to be launched with `launch_options()`."""
    with gr.Blocks(title=header.TITLE, analytics_enabled=False, fill_width=True) as demo:
        header.build(demo, runtime)
        with gr.Row(elem_id="body"):
            with gr.Column(scale=5, min_width=320), gr.Tabs(elem_id="tabs"):
                tabs = [gr.Tab(label, id=label.lower()) for label in ("Generate", "Chat", "Instruct")]
            with gr.Column(scale=2, min_width=280):
                sampling = controls.build()
        for tab, content in zip(tabs, (generate, chat, instruct), strict=True):
            with tab:
                content.build(runtime, sampling)
        footer.build(runtime)
        api.build(runtime)
    return demo.queue(max_size=WAITING_REQUESTS)


def launch_options() -> dict[str, Any]:
    """The arguments of `launch()` that belong to the page's looks and behaviour."""
    return {
        "theme": theme.build(),
        "css_paths": sorted(HERE.glob("style/*.css")),
        "favicon_path": HERE / "falcon.svg",
        "footer_links": ["api"],
        "ssr_mode": False,
        "run_history": False,
        "quiet": True,
    }
