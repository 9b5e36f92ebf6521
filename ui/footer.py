"""The bottom of the page: what to expect, and whose model it is."""

import gradio as gr

from falcon_runtime.fleet import Fleet

from .runs import INSTANT


def build(demo: gr.Blocks, fleet: Fleet, answering: gr.State) -> None:
    """Lays the footer out; `answering` changes when another model answers."""
    footer = gr.Markdown(render(fleet), elem_id="footer")
    gr.on([demo.load, answering.change], lambda: render(fleet), None, footer, **INSTANT)


def render(fleet: Fleet) -> str:
    """The footer as it is now."""
    words = "Language models make mistakes: check what matters. What you write is computed on this server and not kept."
    for choice in fleet.choices():
        if choice.name == fleet.current.name and choice.licence:
            words += f" {choice.title} is licensed under [{choice.licence}]({choice.licence_url})."
    return words
