"""Clear, with a way back."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from .runs import INSTANT
from .words import say

HIDE = "() => ({__type__: 'update', visible: false})"
HIDE_IF_WRITTEN = "(...texts) => ({__type__: 'update', ...(texts.some(Boolean) ? {visible: false} : {})})"
"""In the browser: no word that is typed waits for the server."""


class Clearing:
    """The button Clear of a tab, and Restore, which is there until something new is begun."""

    def __init__(self) -> None:
        self._clear = gr.Button(say("clearing.clear"))
        self._back = gr.Button(say("clearing.bring_back"), visible=False)
        self._taken = gr.State(None)
        self.buttons = [self._clear, self._back]

    def wire(
        self,
        page: Sequence[Component],
        empty: Callable[[], Sequence[Any]],
        boxes: Sequence[gr.Textbox],
        begins: Sequence[Any],
    ) -> None:
        """Clear gives the components of `page` the values of `empty()`. Writing in one of `boxes`, or one of the events
        `begins`, begins something new."""

        def take(*values: Any) -> list[Any]:
            cleared = list(empty())
            if list(values) == cleared:  # There is nothing to clear, and what was is still to be brought back.
                return [gr.skip()] * (len(page) + 2)
            return [*cleared, list(values), gr.Button(visible=True)]

        def bring_back(taken: list[Any]) -> list[Any]:
            return [*taken, gr.Button(visible=False)]

        self._clear.click(take, list(page), [*page, self._taken, self._back], **INSTANT)
        self._back.click(bring_back, self._taken, [*page, self._back], **INSTANT)
        gr.on(list(begins), None, None, self._back, js=HIDE, **INSTANT)
        # Not `input`, which Gradio's text box has for keys alone, and neither for what is pasted nor dropped.
        gr.on([box.change for box in boxes], None, list(boxes), self._back, js=HIDE_IF_WRITTEN, **INSTANT)
