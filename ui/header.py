"""The top of the page: one bar with the model that answers, its state and what else the page has; below it one sentence
that is always true."""

import time
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from falcon_runtime.fleet import Fleet
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.runtime import COMPILING, RESTARTING, FalconRuntime
from falcon_runtime.status import Status

from .icons import icon
from .link import Opening
from .runs import INSTANT

TITLE = "Falcon on ExecuTorch"
PATIENCE = "The model is being prepared, once. You can ask now; the answer comes as soon as it is ready."
REASON = ": the largest that answers at reading speed on this machine"
DOING = {"downloading": "is being downloaded", "converting": "is being converted", "loading": "is being loaded"}
LOGO = (Path(__file__).parent / "falcon.svg").read_text()
REFRESH_S, REFRESH_WHEN_READY_S = 1, 4
RESTART_IS_NEWS_S = 60
DRAWN_BY_SCRIPTS = "".join(f'<span data-icon="{name}">{icon(name)}</span>' for name in ("new", "edit", "delete"))
TOOLS = f"""
<button type="button" class="wide" popovertarget="about">About</button>
<button type="button" class="icon" data-do="settings" aria-controls="settings" aria-expanded="false"
  aria-label="Settings" title="Settings">{icon("settings")}</button>
<button type="button" class="icon" popovertarget="more" aria-label="More" title="More">{icon("more")}</button>
<div id="more" popover role="dialog" aria-label="More">
  <button type="button" popovertarget="about">About</button>
  <button type="button" popovertarget="keys">Keyboard shortcuts</button>
  <label>Appearance <select id="appearance">
    <option value="system">As the system</option>
    <option value="light">Light</option>
    <option value="dark">Dark</option>
  </select></label>
</div>
<div id="icons" hidden>{DRAWN_BY_SCRIPTS}</div>
"""


class Shown(NamedTuple):
    """All that changes at the top of the page."""

    model: str
    sentence: str
    timer: gr.Timer
    answering: str
    """The name of the model that answers."""


def build(opening: Opening, fleet: Fleet, recommended: str | None) -> gr.Textbox:
    """Lays the bar out and keeps its status true. Returns the name of the model that answers, as the page shows it: it
    changes with the model."""
    with gr.Row(elem_id="bar"):
        plain: dict[str, Any] = {"apply_default_css": False, "padding": False}
        gr.HTML(f"{LOGO}<h1>{TITLE}</h1>", elem_id="brand", **plain)
        model = gr.HTML(bar(fleet.current), elem_id="header", **plain)
        gr.HTML(TOOLS, elem_id="tools", js_on_load="falcon.tools(element)", **plain)
    told = gr.HTML(sentence(fleet, recommended), elem_id="sentence", **plain)
    timer, answering = gr.Timer(REFRESH_S), gr.Textbox(fleet.current.name, visible="hidden")

    def refresh() -> Shown:
        calm = fleet.current.status.state == "ready" and not fleet.preparing
        period = REFRESH_WHEN_READY_S if calm else REFRESH_S
        return Shown(bar(fleet.current), sentence(fleet, recommended), gr.Timer(period), fleet.current.name)

    shown = [model, told, timer, answering]
    timer.tick(refresh, None, shown, **INSTANT)
    opening.then(refresh, [], shown)
    return answering


def bar(runtime: FalconRuntime) -> str:
    """The model that answers, as a button that opens the menu of models, and its state, as HTML."""
    status = runtime.status
    state = "Starting" if status.state == "idle" and not status.message else str(replace(status, message=""))
    recipe = f'<span class="recipe">{escape(runtime.description)}</span>' if runtime.description else ""
    return (
        f'<button type="button" class="model {status.state}" popovertarget="models" aria-haspopup="dialog">'
        f'<span class="sr-only">Models: </span><span class="name">{escape(runtime.title)}</span>{recipe}</button>'
        f'<span class="pill {status.state}" role="status">{escape(state)}</span>'
    )


def sentence(fleet: Fleet, recommended: str | None = None) -> str:
    """What answers now and what is being done for it, as HTML."""
    current, coming = fleet.current, fleet.preparing
    status = current.status
    if status.state == "failed" or (status.state == "idle" and status.message):
        return _said(status.message, "failed")
    if status.state != "ready":
        if status.message.startswith(RESTARTING):
            return _said(f"{status.message}. Who was waiting is answered then.", "busy")
        return _said(f"{COMPILING}. {PATIENCE}" if status.message == COMPILING else PATIENCE, "busy", status)
    now = f"Now: {current.title}{_size(current)}."
    if coming:
        reason = REASON if coming.name == recommended else ""
        return _said(f"{now} {coming.title} {_doing(coming.status)}{reason}.", "busy", coming.status)
    if current.restarted_at and time.monotonic() - current.restarted_at < RESTART_IS_NEWS_S:
        return _said(f"{now} The engine had ended and was started again. Everything works as before.")
    if fleet.answering:
        now += f" {fleet.answering} being answered."
    return _said(now)


def _size(runtime: FalconRuntime) -> str:
    """What kind of model answers, in a few words."""
    parameters = getattr(runtime.manifest, "parameters", 0)
    if not parameters:
        return ""
    size = f"{parameters / 1e9:.1f}-billion" if parameters >= 1e9 else f"{parameters / 1e6:.0f}-million"
    kind = "starter" if runtime.name == STARTER.name else "model"
    return f", a {size}-parameter {kind} on this machine's processor"


def _doing(status: Status) -> str:
    """What is being done with a model that is on its way, and how far that is."""
    words = DOING.get(status.state, "is being prepared")
    return str(replace(status, message=f"{words}," if status.progress is not None else words))


def _said(words: str, kind: str = "calm", status: Status | None = None) -> str:
    """The sentence, with a bar where the status tells how far something is."""
    progress = status.progress if status else None
    bar = "" if progress is None else f'<progress value="{progress:.3f}" aria-hidden="true"></progress>'
    return f'<div class="said {kind}"><p>{escape(words)}</p>{bar}</div>'
