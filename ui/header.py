"""The top of the page: what this is, which model answers, and how far it is."""

from dataclasses import replace
from html import escape
from pathlib import Path

import gradio as gr

from falcon_runtime import FalconRuntime

from .runs import INSTANT

TITLE = "Falcon on ExecuTorch"
SENTENCE = "A language model that runs on an ordinary CPU. Let it continue a text, chat with it, or give it a task."
LOGO = (Path(__file__).parent / "falcon.svg").read_text()
REFRESH_S, REFRESH_WHEN_READY_S = 1, 10


def build(demo: gr.Blocks, runtime: FalconRuntime) -> None:
    """Lays the header out and keeps its status true."""
    header = gr.HTML(render(runtime), elem_id="header", apply_default_css=False)
    timer = gr.Timer(REFRESH_S)

    def refresh() -> tuple[str, gr.Timer]:
        ready = runtime.status.state == "ready"
        return render(runtime), gr.Timer(REFRESH_WHEN_READY_S if ready else REFRESH_S)

    gr.on([demo.load, timer.tick], refresh, None, [header, timer], **INSTANT)


def render(runtime: FalconRuntime) -> str:
    """The header as HTML."""
    status = runtime.status
    pill = str(replace(status, message=""))
    recipe = f'<span class="recipe">{escape(runtime.description)}</span>' if runtime.description else ""
    detail = ""
    if status.state != "ready":
        bar = (
            "" if status.progress is None else f'<progress value="{status.progress:.3f}" aria-hidden="true"></progress>'
        )
        detail = f'<p class="detail">{escape(status.message)}</p>{bar}'
    return f"""
<header class="{status.state}">
  {LOGO}
  <div class="what"><h1>{TITLE}</h1><p>{SENTENCE}</p></div>
  <div class="model">
    <span class="name">{escape(runtime.title)}</span>{recipe}
    <span class="pill" role="status">{escape(pill)}</span>
    {detail}
  </div>
</header>"""
