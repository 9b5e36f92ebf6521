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

from . import views
from .phone import PhoneFiles
from .runs import INSTANT

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
        with views.view("models", "Models") as self.opened:
            self.models = gr.Radio(label="Model", show_label=False, elem_id="model-menu")
            self.details = gr.HTML("", elem_id="model-details")
            self.machine = gr.HTML("", elem_id="machine")
            self.template = gr.Radio(
                [],
                label="Chat template",
                info="This model came without one, and cannot chat before it has that of its family.",
                visible=False,
                elem_id="chat-template",
            )
            with gr.Row(elem_classes="actions"):
                self.use = gr.Button("Use this model", variant="primary", interactive=False, elem_id="use-model")
                self.dismiss = gr.Button("Dismiss", visible=False, elem_id="dismiss-failure")
            self.notice = gr.HTML("", elem_id="model-notice")
            self.begun = gr.State(None)
            self.watching = gr.Timer(WATCH_S, active=False)

    def connect(self) -> None:
        menu = [self.models, self.details, self.use]
        shown = [self.notice, self.dismiss, self.begun, self.watching, *menu]
        self.opened.click(self._refresh, [self.models, self.begun], menu, **INSTANT)
        self.opened.click(self._measure, None, self.machine, **INSTANT)
        self.opened.click(self._templates, None, self.template, **INSTANT)
        self.template.input(self._choose_template, self.template, self.template, **INSTANT)
        self.models.input(self._describe, [self.models, self.begun], [self.details, self.use], **INSTANT)
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
        words = "Use this model" if choice.converted else "Agree to the licence, download and convert"
        if begun and begun.name == choice.name and begun.status.state == "failed":
            words = "Try again"
        if choice.name == self._fleet.current.name:
            words = "In use"
        elif self._fleet.preparing and choice.name == self._fleet.preparing.name:
            words = "Being prepared"
        links = self._phone_files.links(choice.name) if self._phone_files else ""
        return details_of(choice, links), gr.Button(words, interactive=words not in ("In use", "Being prepared"))

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
        words = f"{coming.title} is being prepared: the top of the page shows how far it is. Running answers finish."
        menu = self._refresh(chosen, coming)
        return Shown(said(words), gr.Button(visible=False), coming, gr.Timer(active=True), *menu)

    def _watch(self, chosen: str, begun: FalconRuntime | None) -> Shown:
        """What became of the switch that this visitor began; nobody else is told if it failed."""
        if begun is None:  # It was dismissed in this instant.
            return Shown()
        state, is_current = begun.status.state, begun is self._fleet.current
        if state != "failed" and (begun is self._fleet.preparing or (is_current and state != "ready")):
            return Shown()
        if state == "failed":
            words = f"{begun.title} could not be prepared: {begun.status.message}"
            return self._over(failed(words), begun, chosen, dismissible=True)
        return self._over(said(f"{begun.title} answers now." if is_current else ""), begun, chosen)

    def _forget(self, chosen: str) -> Shown:
        return self._over("", None, chosen)

    def _over(self, notice: str, begun: FalconRuntime | None, chosen: str, dismissible: bool = False) -> Shown:
        """A switch is over, or was never begun."""
        menu = self._refresh(chosen, begun)
        return Shown(notice, gr.Button(visible=dismissible), begun, gr.Timer(active=False), *menu)


def label(choice: Choice, fleet: Fleet, recommended: str | None) -> str:
    """A model's title, and whether it is at hand."""
    words = "converted" if choice.converted else gigabytes(choice.download_bytes) + " to download"
    if choice.name == fleet.current.name:
        words = "in use"
    elif fleet.preparing and choice.name == fleet.preparing.name:
        words = "being prepared"
    return f"{choice.title} · {words}" + " · recommended for this machine" * (choice.name == recommended)


def said(words: str) -> str:
    return f'<p role="status">{escape(words)}</p>' if words else ""


def failed(words: str) -> str:
    """Why a model cannot be used."""
    return f'<p class="warning" role="alert">{escape(words)}</p>'


def details_of(choice: Choice, links: str = "") -> str:
    """What a person should know before choosing a model, as HTML, with `links` to its files."""
    known = f"{choice.parameters / 1e9:.2f} billion parameters, {choice.recipe}"
    size = known if choice.parameters else "A stock program, as exporters make it"
    at_once = f"{choice.slots} answers at once" if choice.slots > 1 else "one answer at a time"
    facts = [
        f"{size}, {choice.context:,} tokens of context",
        f"{gigabytes(choice.memory_bytes)} of memory for {at_once}",
        *(escape(remark[0].upper() + remark[1:]) for remark in choice.remarks),
        f"Runs on {escape(cpu_name())}" + f" with {chosen().title}" * (choice.recipe != "stock"),
    ]
    if not choice.converted:
        facts.append(
            f"{gigabytes(choice.download_bytes)} to download, {gigabytes(choice.program_bytes)} when converted"
        )
    if choice.licence:
        facts.append(
            f'<a href="{escape(choice.licence_url)}" target="_blank" rel="noopener">{escape(choice.licence)}</a>. '
            f"{escape(choice.licence_summary)}"
        )
    if links:
        facts.append(links)
    return f"<ul>{''.join(f'<li>{fact}</li>' for fact in facts)}</ul>"


def machine_of(runtime: FalconRuntime, best: Ceilings) -> str:
    """What this machine can do at best, and how much of it the model reaches, as HTML."""
    words = (
        f"This machine reads {best.read_bytes_per_second / 1e9:.0f} GB of memory a second at best, and computes "
        f"{best.products_per_second / 1e9:.0f} billion products of bytes."
    )
    if isinstance(runtime.manifest, Manifest) and runtime.forwards:
        share = ceilings.reached(runtime.manifest, runtime.forwards, best)
        rows = max(runtime.forwards)
        multiplied = f", and {share.prefill:.0%} of those products for {rows} at a time" if share.prefill else ""
        words += f" {runtime.title} reaches {share.decode:.0%} of that speed of reading for one token{multiplied}."
    return f"<p>{escape(words)}</p>"


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
