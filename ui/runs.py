"""What every tab's runs have in common: what starts and stops one, and what the page shows meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from . import stats
from .streaming import Update

CONCURRENT_RUNS = 8
"""Requests of one kind that reach the engine at a time; it queues them itself and tells each its place."""
INSTANT: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Options of the events that only rearrange the page."""
SETTLED = "This page could not get an answer: the demo is too busy, or something broke. Please try again."


class Start(NamedTuple):
    """One way to start a run: the triggers, and how the page is prepared for it."""

    triggers: Sequence[Any]
    prepare: Callable[..., tuple[Any, ...]]
    inputs: Sequence[Component]
    outputs: Sequence[Component]


class Runs:
    """The runs of one tab. While one is going, Stop stands in the place of the start button."""

    def __init__(self, start: gr.Button, stop: gr.Button, line: gr.HTML, locked: Sequence[Component] = ()) -> None:
        """`locked` cannot be used during a run."""
        self._start, self._stop, self._line, self._locked = start, stop, line, locked
        self._last = gr.State(Update())

    def wire(
        self,
        answer: Callable[..., Iterator[tuple[Any, str, Update]]],
        inputs: Sequence[Component],
        output: Component,
        starts: Sequence[Start],
    ) -> None:
        """Connects each start with `answer`, a generator as made by `streaming.to_page`, and all of them with Stop."""
        running = [self._wire_start(start, answer, inputs, output) for start in starts]
        self._stop.click(self._stopped, self._last, [self._line, *self._controls()], cancels=running, **INSTANT)

    def _wire_start(
        self, start: Start, answer: Callable[..., Any], inputs: Sequence[Component], output: Component
    ) -> Any:
        @wraps(start.prepare)
        def begin(*values: Any) -> tuple[Any, ...]:
            return *start.prepare(*values), stats.line(Update()), Update(), *self._controls_while(running=True)

        begun = gr.on(
            start.triggers, begin, start.inputs, [*start.outputs, self._line, self._last, *self._controls()], **INSTANT
        )
        run = begun.then(
            answer,
            inputs,
            [output, self._line, self._last],
            concurrency_limit=CONCURRENT_RUNS,
            show_progress="hidden",
            api_visibility="private",
        )
        run.then(lambda: self._controls_while(running=False), None, self._controls(), **INSTANT)
        run.failure(lambda: stats.line(Update(error=SETTLED)), None, self._line, **INSTANT)
        return run

    def _stopped(self, last: Update) -> tuple[Any, ...]:
        return stats.line(stats.stopped(last)), *self._controls_while(running=False)

    def _controls(self) -> list[Component]:
        return [self._start, self._stop, *self._locked]

    def _controls_while(self, running: bool) -> list[Any]:
        locks = [gr.update(interactive=not running) for _ in self._locked]
        return [gr.update(visible=not running), gr.update(visible=running), *locks]


def submit_with(box: gr.Textbox, button: gr.Button) -> None:
    """Enter in `box` presses `button`, which is not there to be pressed while a run is going."""
    box.submit(None, js=f"() => document.getElementById('{button.elem_id}')?.click()")
