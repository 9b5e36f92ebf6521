"""The top of the page: what this is, which model answers, and how far it is."""

from dataclasses import replace
from html import escape
from pathlib import Path

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.status import Status

from .runs import INSTANT

TITLE = "Falcon on ExecuTorch"
SENTENCE = "A language model that runs on an ordinary CPU. Let it continue a text, chat with it, or give it a task."
PATIENCE = "The model is being prepared, once. Ask already: you are answered as soon as it is ready."
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
    recipe = f'<span class="recipe">{escape(runtime.description)}</span>' if runtime.description else ""
    pill = str(replace(status, message=""))
    return f"""
<header class="{status.state}">
  {LOGO}
  <div><h1>{TITLE}</h1><p>{SENTENCE}</p></div>
  <div class="model">
    <span class="name">{escape(runtime.title)}</span>
    {recipe}
    <span class="pill" role="status">{escape(pill)}</span>
  </div>
  {"" if status.state == "ready" else _notice(status)}
</header>"""


def _notice(status: Status) -> str:
    """What is being done for the model, or why there is none at the moment."""
    if status.state == "failed" or (status.state == "idle" and status.message):
        return f'<div class="notice"><p>{escape(status.message)}</p></div>'
    bar = "" if status.progress is None else f'<progress value="{status.progress:.3f}" aria-hidden="true"></progress>'
    return f'<div class="notice"><p>{PATIENCE}</p>{bar}</div>'
