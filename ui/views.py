"""What lies over the page when it is asked for: the browser opens and closes it by itself (the popover API)."""

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from .words import say


@contextmanager
def view(name: str, title: str) -> Iterator[gr.HTML]:
    """A view with `title` as its heading and what is laid out within. Any button opens it whose `popovertarget` is its
    `name`. Gives a component that is clicked when the view opens."""
    with gr.Column(elem_id=name, elem_classes="view"):
        close = say("views.close")
        hides = f'popovertarget="{name}" popovertargetaction="hide" aria-label="{close}"'
        yield gr.HTML(
            f'<h2>{title}</h2><button type="button" {hides}>×</button>',
            elem_classes="view-head",
            apply_default_css=False,
            padding=False,
            js_on_load=f"falcon.view(element.closest('#{name}'), trigger)",
        )
