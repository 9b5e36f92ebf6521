"""The top of the page: what this is, which model answers, and how far it is."""

import time
from dataclasses import replace
from html import escape
from pathlib import Path

import gradio as gr

from falcon_runtime.fleet import Fleet
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.runtime import COMPILING, RESTARTING
from falcon_runtime.status import Status

from .link import Opening
from .runs import INSTANT

TITLE = "Falcon on ExecuTorch"
SENTENCE = "A language model that runs on an ordinary CPU. Let it continue a text, chat with it, or give it a task."
PATIENCE = "The model is being prepared, once. You can ask now; the answer comes as soon as it is ready."
REASON = ": the largest that answers at reading speed on this machine"
DOING = {"downloading": "is being downloaded", "converting": "is being converted", "loading": "is being loaded"}
LOGO = (Path(__file__).parent / "falcon.svg").read_text()
REFRESH_S, REFRESH_WHEN_READY_S = 1, 4
RESTART_IS_NEWS_S = 60


def build(opening: Opening, fleet: Fleet, recommended: str | None) -> gr.Textbox:
    """Lays the header out and keeps its status true. Returns the name of the model that answers, as the page shows
    it: it changes with the model."""
    header = gr.HTML(render(fleet, recommended), elem_id="header", apply_default_css=False)
    timer, answering = gr.Timer(REFRESH_S), gr.Textbox(fleet.current.name, visible="hidden")

    def refresh() -> tuple[str, gr.Timer, str]:
        calm = fleet.current.status.state == "ready" and not fleet.preparing
        return render(fleet, recommended), gr.Timer(REFRESH_WHEN_READY_S if calm else REFRESH_S), fleet.current.name

    shown = [header, timer, answering]
    timer.tick(refresh, None, shown, **INSTANT)
    opening.then(refresh, [], shown)
    return answering


def render(fleet: Fleet, recommended: str | None = None) -> str:
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
  {_notice(fleet, recommended)}
</header>"""


def _notice(fleet: Fleet, recommended: str | None) -> str:
    """What is being done for a model, or why there is none at the moment."""
    current, coming = fleet.current, fleet.preparing
    status = current.status
    if status.state == "failed" or (status.state == "idle" and status.message):
        return _said(status.message)
    if status.state != "ready":
        if status.message.startswith(RESTARTING):
            return _said(f"{status.message}. Who was waiting is answered then.")
        return _said(f"{COMPILING}. {PATIENCE}" if status.message == COMPILING else PATIENCE, status)
    if coming:
        now = f"Now: {current.title}{', a small starter' if current.name == STARTER.name else ''}."
        reason = REASON if coming.name == recommended else ""
        return _said(f"{now} {coming.title} {_doing(coming.status)}{reason}.", coming.status)
    if current.restarted_at and time.monotonic() - current.restarted_at < RESTART_IS_NEWS_S:
        return _said("The engine had ended and was started again. Everything works as before.")
    return ""


def _doing(status: Status) -> str:
    """What is being done with a model that is on its way, and how far that is."""
    words = DOING.get(status.state, "is being prepared")
    return str(replace(status, message=f"{words}," if status.progress is not None else words))


def _said(words: str, status: Status | None = None) -> str:
    """A line below the rest, with a bar where the status tells how far it is."""
    progress = status.progress if status else None
    bar = "" if progress is None else f'<progress value="{progress:.3f}" aria-hidden="true"></progress>'
    return f'<div class="notice"><p>{escape(words)}</p>{bar}</div>'
