"""Rows of examples to begin from: those of the model in use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from .link import Opening
from .runs import INSTANT

MOST = 6
BUTTONS = """<div class="chips">{{#each value}}
<button type="button" dir="auto" {{#if ../locked}}disabled{{/if}}>{{this}}</button>
{{/each}}</div>"""
CLICKS = """element.addEventListener('click', event => {
  const button = event.target.closest('button')
  if (button) trigger('click', {example: button.textContent})
})"""


class Chips:
    """A row of buttons, one for each of `examples()`, which are read again whenever the page is opened.

    It is one component, since each component and each event costs time in every browser that opens the page.
    """

    def __init__(self, examples: Callable[[], Mapping[str, Any]], opening: Opening) -> None:
        self._examples = examples
        self.row = gr.HTML(
            self._labels(),
            html_template=BUTTONS,
            js_on_load=CLICKS,
            apply_default_css=False,
            locked=False,
        )
        opening.then(lambda: [self._labels()], [], [self.row])

    def click(self, use: Callable[..., Any], inputs: Sequence[Component], outputs: Sequence[Component]) -> None:
        """A chip that is pressed does `use(example, *inputs)`, which gives `outputs`."""

        def chosen(event: gr.EventData, *values: Any) -> Any:
            example = self._examples().get(event.example)
            if example is None:  # The model was switched meanwhile.
                return [gr.skip() for _ in outputs]
            return use(example, *values)

        self.row.click(chosen, list(inputs), list(outputs), **INSTANT)

    def _labels(self) -> list[str]:
        return list(self._examples())[:MOST]
