"""The top of the page: what this is, which model answers, and how far it is."""

import time
from dataclasses import replace
from html import escape
from pathlib import Path

import gradio as gr

from falcon_runtime.fleet import Fleet
from falcon_runtime.status import Status

from .runs import INSTANT

TITLE = "Falcon on ExecuTorch"
SENTENCE = "A language model that runs on an ordinary CPU. Let it continue a text, chat with it, or give it a task."
PATIENCE = "The model is being prepared, once. Ask already: you are answered as soon as it is ready."
LOGO = (Path(__file__).parent / "falcon.svg").read_text()
REFRESH_S, REFRESH_WHEN_READY_S = 1, 4
RESTART_IS_NEWS_S = 60


def build(demo: gr.Blocks, fleet: Fleet) -> None:
    """Lays the header out and keeps its status true."""
    header = gr.HTML(render(fleet), elem_id="header", apply_default_css=False)
    timer = gr.Timer(REFRESH_S)

    def refresh() -> tuple[str, gr.Timer]:
        calm = fleet.current.status.state == "ready" and not fleet.preparing
        return render(fleet), gr.Timer(REFRESH_WHEN_READY_S if calm else REFRESH_S)

    gr.on([demo.load, timer.tick], refresh, None, [header, timer], **INSTANT)


def render(fleet: Fleet) -> str:
    """The header as HTML."""
    runtime = fleet.current
    status = runtime.status
    recipe = f'<span class="recipe">{escape(runtime.description)}</span>' if runtime.description else ""
    answering = f'<span class="answering">{fleet.answering} being answered</span>' if fleet.answering else ""
    pill = str(replace(status, message=""))
    return f"""
<header class="{status.state}">
  {LOGO}
  <div><h1>{TITLE}</h1><p>{SENTENCE}</p></div>
  <div class="model">
    <span class="name">{escape(runtime.title)}</span>
    {recipe}
    <span class="now">{answering}<span class="pill" role="status">{escape(pill)}</span></span>
  </div>
  {_notice(fleet)}
</header>"""


def _notice(fleet: Fleet) -> str:
    """What is being done for a model, or why there is none at the moment."""
    current, next_one = fleet.current, fleet.preparing
    status = current.status
    if status.state == "failed" or (status.state == "idle" and status.message):
        return _said(escape(status.message))
    if status.state != "ready":
        return _said(PATIENCE, status)
    if next_one:
        if next_one.status.state == "failed":
            return _said(f"{escape(next_one.title)} could not be prepared: {escape(next_one.status.message)}")
        doing = escape(str(replace(next_one.status, message=next_one.status.state)))
        return _said(f"{escape(next_one.title)}: {doing}. Until then {escape(current.title)} answers.", next_one.status)
    if current.restarted_at and time.time() - current.restarted_at < RESTART_IS_NEWS_S:
        return _said("The engine had ended and was started again. Everything works as before.")
    return ""


def _said(words: str, status: Status | None = None) -> str:
    """A line below the rest, with a bar where the status tells how far it is."""
    progress = status.progress if status else None
    bar = "" if progress is None else f'<progress value="{progress:.3f}" aria-hidden="true"></progress>'
    return f'<div class="notice"><p>{words}</p>{bar}</div>'
