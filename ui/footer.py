"""The bottom of the page: what to expect, and whose model it is."""

import gradio as gr

from falcon_runtime.fleet import Fleet

from .link import Opening
from .runs import INSTANT
from .words import say


def build(opening: Opening, fleet: Fleet, answering: gr.Textbox) -> None:
    """Lays the footer out; `answering` changes when another model answers."""
    footer = gr.Markdown(render(fleet), elem_id="footer")
    answering.change(lambda: render(fleet), None, footer, **INSTANT)
    opening.then(lambda: [render(fleet)], [], [footer])


def render(fleet: Fleet) -> str:
    """The footer as it is now."""
    told = say("footer.mistakes")
    for choice in fleet.choices():
        if choice.name == fleet.current.name and choice.licence:
            licence = f"[{choice.licence}]({choice.licence_url})"
            told += " " + say("about.licensed", title=choice.title, licence=licence)
    return told
