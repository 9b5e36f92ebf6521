"""The top of the page: one bar with the model that answers, its state and what else the page has; below it one sentence
that is always true."""

import time
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from falcon_runtime.fleet import Fleet
from falcon_runtime.models.catalog import CATALOG, STARTER
from falcon_runtime.runtime import COMPILING, RESTARTING, FalconRuntime
from falcon_runtime.status import Status

from . import words
from .icons import icon
from .link import Opening
from .runs import INSTANT
from .words import say

TITLE = "Falcon on ExecuTorch"
LOGO = (Path(__file__).parent / "falcon.svg").read_text()
REFRESH_S, REFRESH_WHEN_READY_S = 1, 4
RESTART_IS_NEWS_S = 60
DRAWN_BY_SCRIPTS = "".join(f'<span data-icon="{name}">{icon(name)}</span>' for name in ("new", "edit", "delete"))


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
        gr.HTML(tools(), elem_id="tools", js_on_load="falcon.tools(element)", **plain)
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
    if status.state == "idle" and not status.message:
        state = say("bar.starting")
    else:  # Until a conversion has written something, nobody knows how long it takes.
        state = words.status(replace(status, message="", progress=status.progress or None))
    recipe = f'<span class="recipe" dir="auto">{escape(kind)}</span>' if (kind := words.kind(runtime)) else ""
    return (
        f'<button type="button" class="model {status.state}" popovertarget="models" aria-haspopup="dialog">'
        f'<span class="sr-only">{say("bar.models")} </span>'
        f'<span class="name" dir="auto">{escape(runtime.title)}</span>{recipe}</button>'
        f'<span class="pill {status.state}" role="status">{escape(state)}</span>'
    )


def tools() -> str:
    """What stands at the end of the bar, as HTML."""
    looks = "".join(
        f'<option value="{look}">{say(f"bar.appearance.{look}")}</option>' for look in ("system", "light", "dark")
    )
    languages = "".join(f'<option value="{code}" lang="{code}">{name}</option>' for code, name in words.NAMES.items())
    settings, more, about = say("bar.settings"), say("bar.more"), say("bar.about")
    return f"""
<button type="button" class="wide" popovertarget="about">{about}</button>
<button type="button" class="icon" data-do="settings" aria-controls="settings" aria-expanded="false"
  aria-label="{settings}" title="{settings}">{icon("settings")}</button>
<button type="button" class="icon" popovertarget="more" aria-label="{more}" title="{more}">{icon("more")}</button>
<div id="more" popover role="dialog" aria-label="{more}">
  <button type="button" popovertarget="about">{about}</button>
  <button type="button" popovertarget="keys">{say("keys.keys")}</button>
  <label>{say("bar.language")} <select id="language">{languages}</select></label>
  <label>{say("bar.appearance")} <select id="appearance">{looks}</select></label>
</div>
<div id="icons" hidden>{DRAWN_BY_SCRIPTS}</div>
"""


def sentence(fleet: Fleet, recommended: str | None = None) -> str:
    """What answers now and what is being done for it, as HTML."""
    current, coming = fleet.current, fleet.preparing
    status = current.status
    if status.state == "failed" or (status.state == "idle" and status.message):
        return _said([status.message], "failed")
    if status.state != "ready":
        if status.message.startswith(RESTARTING):
            return _said([say("sentence.restarting")], "busy")
        compiling = [say("sentence.compiling")] if status.message == COMPILING else []
        return _said([*compiling, say("sentence.patience")], "busy", status)
    now = [_now(current)]
    if coming:
        now.append(_coming(coming, coming.name == recommended))
        return _said(now, "busy", coming.status)
    if current.restarted_at and time.monotonic() - current.restarted_at < RESTART_IS_NEWS_S:
        now.append(say("sentence.restarted"))
    return _said(now, answering=fleet.answering)


def _now(runtime: FalconRuntime) -> str:
    """Which model answers, of what kind it is and, to who reads another language, which ones it was made for."""
    entry = CATALOG.get(runtime.name.partition(":")[0])
    if entry and words.language() not in entry.languages:
        return f"{_named(runtime)} {say('sentence.languages', languages=words.languages(entry.languages))}"
    return _named(runtime)


def _named(runtime: FalconRuntime) -> str:
    """Which model answers, and of what size it is where that is known."""
    parameters = getattr(runtime.manifest, "parameters", 0)
    if parameters < 1e6:
        return say("sentence.now", title=runtime.title)
    size = (
        say("sentence.billion", count=words.number(parameters / 1e9, 1))
        if parameters >= 1e9
        else say("sentence.million", count=words.number(parameters / 1e6))
    )
    starter = runtime.name == STARTER.name
    return say("sentence.now_starter" if starter else "sentence.now_model", title=runtime.title, size=size)


def _coming(runtime: FalconRuntime, recommended: bool) -> str:
    """What is being done with a model that is on its way, how far that is, and why it comes."""
    status = runtime.status
    state = status.state if status.state in ("downloading", "converting", "loading") else "preparing"
    far = [words.percent(status.progress)] if status.progress is not None else []
    far += [say("sentence.left", time=words.duration(status.eta_s))] if status.eta_s is not None else []
    doing = say("list.comma").join([say(f"sentence.is.{state}", title=runtime.title), *far])
    return say("sentence.recommended" if recommended else "sentence.whole", doing=doing)


def _said(sentences: Sequence[str], kind: str = "calm", status: Status | None = None, answering: int = 0) -> str:
    """The sentences on one line, with a bar where the status tells how far something is. How many are being answered
    is apart: when this visitor's answer ends, it is no longer true, and the page takes it out until it is told anew."""
    progress = status.progress if status else None
    bar = "" if progress is None else f'<progress value="{progress:.3f}" aria-hidden="true"></progress>'
    count = f' <span class="answering">{say("sentence.answering", count=answering)}</span>' if answering else ""
    return f'<div class="said {kind}"><p>{escape(" ".join(sentences))}{count}</p>{bar}</div>'
