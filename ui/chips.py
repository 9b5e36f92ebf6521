"""Rows of examples to begin from: those of the model in use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from .link import Opening
from .runs import INSTANT

MOST = 6


class Chips:
    """A row of buttons, one for each of `examples()`, which are read again whenever the page is opened."""

    def __init__(self, examples: Callable[[], Mapping[str, Any]], opening: Opening) -> None:
        self._examples = examples
        labels = list(examples())[:MOST]
        with gr.Row(elem_classes="chips"):
            self.buttons = [
                gr.Button(labels[i] if i < len(labels) else "", visible=i < len(labels), size="sm") for i in range(MOST)
            ]
        self.clicks = [button.click for button in self.buttons]
        opening.then(self._refresh, [], self.buttons)

    def click(self, use: Callable[..., Any], inputs: Sequence[Component], outputs: Sequence[Component]) -> None:
        """A chip that is pressed does `use(example, *inputs)`, which gives `outputs`."""

        def chosen(label: str, *values: Any) -> Any:
            example = self._examples().get(label)
            if example is None:  # The model was switched meanwhile.
                return [gr.skip() for _ in outputs]
            return use(example, *values)

        for button, clicked in zip(self.buttons, self.clicks, strict=True):
            clicked(chosen, [button, *inputs], list(outputs), **INSTANT)

    def _refresh(self) -> list[gr.Button]:
        labels = list(self._examples())[:MOST]
        return [gr.Button(label, visible=True) for label in labels] + [
            gr.Button(visible=False) for _ in range(MOST - len(labels))
        ]
