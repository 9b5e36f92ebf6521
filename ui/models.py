"""The model menu: what can answer here, what each would take, and the way to make it answer."""

from html import escape
from typing import Any, NamedTuple

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.engine import ceilings
from falcon_runtime.engine.ceilings import Ceilings
from falcon_runtime.errors import FalconError
from falcon_runtime.fleet import Fleet
from falcon_runtime.models.choosing import Offer
from falcon_runtime.models.library import Choice
from falcon_runtime.models.manifest import Manifest
from falcon_runtime.system.instruction_sets import chosen
from falcon_runtime.system.machine import cpu_name

from . import views, words
from .phone import PhoneFiles
from .runs import INSTANT, LATEST
from .words import say

LICENCES = {"Apache-2.0": "licence.apache", "TII Falcon-LLM License 2.0": "licence.falcon"}
"""The words of the page for what licences ask for."""
WATCH_S = 1
"""Seconds between looks at a switch that a visitor began."""


class Menu(NamedTuple):
    """What there is to choose from."""

    models: gr.Radio
    details: str
    """What there is to know of the chosen one."""
    use: gr.Button
    """Makes the chosen one answer."""


class Shown(NamedTuple):
    """All that changes in the menu; what is left out stays as it is."""

    notice: Any = gr.skip()
    dismiss: Any = gr.skip()
    begun: Any = gr.skip()
    """The runtime of the switch that this visitor began."""
    watching: Any = gr.skip()
    models: Any = gr.skip()
    details: Any = gr.skip()
    use: Any = gr.skip()


def build(fleet: Fleet, offer: Offer, recommended: str | None, phone_files: PhoneFiles | None) -> None:
    """Lays the menu out and connects its events, unless there is nothing to choose."""
    if offer != "none":
        ModelMenu(fleet, offer, recommended, phone_files).connect()


class ModelMenu:
    """The components of the menu, and the functions that their events call."""

    def __init__(self, fleet: Fleet, offer: Offer, recommended: str | None, phone_files: PhoneFiles | None) -> None:
        self._fleet, self._offer, self._recommended, self._phone_files = fleet, offer, recommended, phone_files
        with views.view("models", say("models.models")) as self.opened:
            self.models = gr.Radio(label=say("models.model"), show_label=False, elem_id="model-menu")
            self.details = gr.HTML("", elem_id="model-details")
            self.machine = gr.HTML("", elem_id="machine")
            self.template = gr.Radio(
                [],
                label=say("models.template"),
                info=say("models.template.info"),
                visible=False,
                elem_id="chat-template",
            )
            with gr.Row(elem_classes="actions"):
                self.use = gr.Button(say("models.use"), variant="primary", interactive=False, elem_id="use-model")
                self.dismiss = gr.Button(say("models.dismiss"), visible=False, elem_id="dismiss-failure")
            self.notice = gr.HTML("", elem_id="model-notice")
            self.begun = gr.State(None)
            self.watching = gr.Timer(WATCH_S, active=False)

    def connect(self) -> None:
        menu = [self.models, self.details, self.use]
        shown = [self.notice, self.dismiss, self.begun, self.watching, *menu]
        self.opened.click(self._refresh, [self.models, self.begun], menu, **INSTANT)
        self.opened.click(self._measure, None, self.machine, **INSTANT)
        self.opened.click(self._templates, None, self.template, **INSTANT)
        self.template.input(self._choose_template, self.template, self.template, **LATEST)
        self.models.input(self._describe, [self.models, self.begun], [self.details, self.use], **LATEST)
        self.use.click(self._switch, [self.models], shown, **INSTANT)
        self.watching.tick(self._watch, [self.models, self.begun], shown, **INSTANT)
        self.dismiss.click(self._forget, [self.models], shown, **INSTANT)

    def _offered(self) -> list[Choice]:
        return [choice for choice in self._fleet.choices() if self._offer == "all" or choice.converted]

    def _refresh(self, chosen: str | None, begun: FalconRuntime | None) -> Menu:
        """The models as they are now."""
        titles = {choice.name: label(choice, self._fleet, self._recommended) for choice in self._offered()}
        chosen = chosen if chosen in titles else self._fleet.current.name
        models = gr.Radio([(title, name) for name, title in titles.items()], value=chosen)
        return Menu(models, *self._describe(chosen, begun))

    def _describe(self, chosen: str | None, begun: FalconRuntime | None) -> tuple[str, gr.Button]:
        """The model that is looked at: what it takes, and what would be done."""
        choice = next((choice for choice in self._fleet.choices() if choice.name == chosen), None)
        if choice is None:
            return "", gr.Button(interactive=False)
        does = "use" if choice.converted else "agree"
        if begun and begun.name == choice.name and begun.status.state == "failed":
            does = "again"
        if choice.name == self._fleet.current.name:
            does = "in_use"
        elif self._fleet.preparing and choice.name == self._fleet.preparing.name:
            does = "preparing"
        links = self._phone_files.links(choice.name) if self._phone_files else ""
        button = gr.Button(say(f"models.{does}"), interactive=does not in ("in_use", "preparing"))
        return details_of(choice, links), button

    def _measure(self) -> Any:
        """What this machine can do, and how much of it the model that answers makes use of."""
        runtime = self._fleet.current
        if runtime.status.state != "ready" or self._fleet.answering:
            return gr.skip()  # What it can do at best shows when it does nothing else.
        try:
            return machine_of(runtime, ceilings.known(self._fleet.threads))
        except EOFError:
            return gr.skip()

    def _templates(self) -> gr.Radio:
        """The chat templates that the model might have, if it came without one."""
        borrowed = self._fleet.current.borrowed_template
        fitting = borrowed.fitting if borrowed else []
        return gr.Radio(fitting, value=borrowed.name if borrowed else None, visible=bool(fitting))

    def _choose_template(self, name: str) -> gr.Radio:
        borrowed = self._fleet.current.borrowed_template
        if borrowed and name in borrowed.fitting:
            borrowed.choose(name)
        return self._templates()

    def _switch(self, chosen: str) -> Shown:
        """Begins to make the model the one that answers; the header tells everybody how far it is."""
        try:
            if chosen not in [choice.name for choice in self._offered()]:
                return Shown(**self._refresh(chosen, None)._asdict())
            coming = self._fleet.switch(chosen)
        except FalconError as error:
            return self._over(failed(str(error)), None, chosen, dismissible=True)
        menu = self._refresh(chosen, coming)
        return Shown(
            said(say("models.coming", title=coming.title)),
            gr.Button(visible=False),
            coming,
            gr.Timer(active=True),
            *menu,
        )

    def _watch(self, chosen: str, begun: FalconRuntime | None) -> Shown:
        """What became of the switch that this visitor began; nobody else is told if it failed."""
        if begun is None:  # It was dismissed in this instant.
            return Shown()
        state, is_current = begun.status.state, begun is self._fleet.current
        if state != "failed" and (begun is self._fleet.preparing or (is_current and state != "ready")):
            return Shown()
        if state == "failed":
            told = say("models.failed", title=begun.title, reason=begun.status.message)
            return self._over(failed(told), begun, chosen, dismissible=True)
        return self._over(said(say("models.answers", title=begun.title) if is_current else ""), begun, chosen)

    def _forget(self, chosen: str) -> Shown:
        return self._over("", None, chosen)

    def _over(self, notice: str, begun: FalconRuntime | None, chosen: str, dismissible: bool = False) -> Shown:
        """A switch is over, or was never begun."""
        menu = self._refresh(chosen, begun)
        return Shown(notice, gr.Button(visible=dismissible), begun, gr.Timer(active=False), *menu)


def label(choice: Choice, fleet: Fleet, recommended: str | None) -> str:
    """A model's title, and whether it is at hand."""
    at_hand = say("models.is_converted")
    if choice.name == fleet.current.name:
        at_hand = say("models.is_in_use")
    elif fleet.preparing and choice.name == fleet.preparing.name:
        at_hand = say("models.is_preparing")
    elif not choice.converted:
        at_hand = say("models.to_download", size=gigabytes(choice.download_bytes))
    return " · ".join([choice.title, at_hand, *[say("models.recommended")] * (choice.name == recommended)])


def said(told: str) -> str:
    return f'<p role="status">{escape(told)}</p>' if told else ""


def failed(told: str) -> str:
    """Why a model cannot be used."""
    return f'<p class="warning" role="alert">{escape(told)}</p>'


def details_of(choice: Choice, links: str = "") -> str:
    """What a person should know before choosing a model, as HTML, with `links` to its files."""
    size = say("models.stock")
    if choice.parameters:
        size = say("models.size", billions=words.number(choice.parameters / 1e9, 2), recipe=choice.recipe)
    cpu = escape(cpu_name())
    facts = [
        say("models.context", size=size, count=choice.context),
        say("models.memory", size=gigabytes(choice.memory_bytes), count=choice.slots),
        *(say(f"models.remark.{remark}") for remark in choice.remarks),
        say("models.cpu", cpu=cpu)
        if choice.recipe == "stock"
        else say("models.cpu_with", cpu=cpu, instructions=chosen().title),
    ]
    if not choice.converted:
        sizes = gigabytes(choice.download_bytes), gigabytes(choice.program_bytes)
        facts.append(say("models.download", size=sizes[0], converted=sizes[1]))
    if choice.licence:
        facts.append(
            f'<bdi><a href="{escape(choice.licence_url)}" target="_blank" rel="noopener">{escape(choice.licence)}</a>. '
            f"{escape(summary(choice))}</bdi>"
        )
    if links:
        facts.append(links)
    return f"<ul>{''.join(f'<li>{fact}</li>' for fact in facts)}</ul>"


def summary(choice: Choice) -> str:
    """What the licence of a model asks for, in a sentence; that of the catalogue where the page has no words for it."""
    return say(LICENCES[choice.licence]) if choice.licence in LICENCES else choice.licence_summary


def machine_of(runtime: FalconRuntime, measured: Ceilings) -> str:
    """What this machine can do at best, and how much of it the model reaches, as HTML."""
    best, reached = measured, ""
    if isinstance(runtime.manifest, Manifest) and runtime.forwards:
        best, decode, prefill = ceilings.reached(runtime.manifest, runtime.forwards, measured)
        model = {"title": runtime.title, "decode": words.percent(decode)}
        if prefill:
            rows = max(runtime.forwards)
            reached = say("machine.reached", **model, prefill=words.percent(prefill), rows=rows)
        else:
            reached = say("machine.reached_reading", **model)
    told = say(
        "machine.best",
        size=words.number(best.read_bytes_per_second / 1e9),
        products=words.number(best.products_per_second / 1e9),
    )
    return f"<p>{escape(f'{told} {reached}'.rstrip())}</p>"


def gigabytes(size: int) -> str:
    return say("size.gigabytes", size=words.number(size / 1e9, 1))
