"""The model menu: what can answer here, what each would take, and the way to make it answer."""

from html import escape
from typing import Literal

import gradio as gr

from falcon_runtime.errors import FalconError
from falcon_runtime.fleet import Choice, Fleet

from .runs import INSTANT

Offer = Literal["all", "converted", "none"]
"""Which models visitors may switch to: all of the catalogue, those that are converted, or none."""


def build(fleet: Fleet, offer: Offer) -> None:
    """Lays the menu out and connects its events."""
    if offer == "none":
        return
    with gr.Accordion("Models", open=False, elem_id="models") as accordion:
        menu = gr.Radio(label="Model", show_label=False, elem_id="model-menu")
        details = gr.HTML("", elem_id="model-details")
        with gr.Row(elem_classes="actions"):
            use = gr.Button("Use this model", variant="primary", interactive=False, elem_id="use-model")
        notice = gr.HTML("", elem_id="model-notice")

    def offered() -> list[Choice]:
        return [choice for choice in fleet.choices() if offer == "all" or choice.converted]

    def refresh(chosen: str | None) -> tuple[gr.Radio, str, gr.Button]:
        """The models as they are now."""
        titles = {choice.name: label(choice, fleet) for choice in offered()}
        chosen = chosen if chosen in titles else fleet.current.name
        return gr.Radio([(title, name) for name, title in titles.items()], value=chosen), *describe(chosen)

    def describe(chosen: str | None) -> tuple[str, gr.Button]:
        """The model that is looked at: what it takes, and what would be done."""
        choice = next((choice for choice in fleet.choices() if choice.name == chosen), None)
        if choice is None:
            return "", gr.Button(interactive=False)
        if choice.name == fleet.current.name:
            return details_of(choice), gr.Button("In use", interactive=False)
        words = "Use this model" if choice.converted else "Agree to the licence, download and convert"
        return details_of(choice), gr.Button(words, interactive=True)

    def switch(chosen: str) -> str:
        """Begins to make the model the one that answers; the header tells how far it is."""
        try:
            if chosen in [choice.name for choice in offered()]:
                fleet.switch(chosen)
        except FalconError as error:
            return f'<p class="warning" role="alert">{escape(str(error))}</p>'
        words = "It is being prepared: the top of the page shows how far it is. Running answers finish."
        return f'<p role="status">{words}</p>'

    accordion.expand(refresh, menu, [menu, details, use], **INSTANT)
    menu.input(describe, menu, [details, use], **INSTANT).then(lambda: "", None, notice, **INSTANT)
    use.click(switch, menu, notice, **INSTANT)


def label(choice: Choice, fleet: Fleet) -> str:
    """A model's title, and whether it is at hand."""
    if choice.name == fleet.current.name:
        return f"{choice.title} · in use"
    return f"{choice.title} · {'converted' if choice.converted else gigabytes(choice.download_bytes) + ' to download'}"


def details_of(choice: Choice) -> str:
    """What a person should know before choosing a model, as HTML."""
    facts = [
        f"{choice.parameters / 1e9:.2f} billion parameters, {choice.recipe}, {choice.context:,} tokens of context",
        f"{gigabytes(choice.memory_bytes)} of memory for {choice.slots} answers at once",
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
    return f"<ul>{''.join(f'<li>{fact}</li>' for fact in facts)}</ul>"


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
