"""What every tab's runs have in common: what starts and stops one, and what the page shows meanwhile."""

import json
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from . import stats
from .update import Update
from .words import say

CONCURRENT_RUNS = 8
"""Requests of one kind that reach the engine at a time; it queues them itself and tells each its place."""
SILENT: dict[str, Any] = {"show_progress": "hidden", "show_progress_on": [], "api_visibility": "private"}
"""Options of all events. Progress would be told to each output even though it is hidden, and to do so browsers copy all
that an output has, and each output of earlier events too: at every update of an answer."""
INSTANT: dict[str, Any] = {"queue": False, **SILENT}
"""Options of the events that only rearrange the page."""
LATEST: dict[str, Any] = INSTANT | {"trigger_mode": "always_last"}
"""The same for those of which the last one counts: Gradio would drop what comes while one is at work."""


class Start(NamedTuple):
    """One way to start a run: what triggers it, events of components that have an `elem_id` and start nothing else, and
    the function that prepares the page for it, which may take the event."""

    triggers: Sequence[Any]
    prepare: Callable[..., Any]
    inputs: Sequence[Component]
    outputs: Sequence[Component]

    def is_triggered_by(self, event: gr.EventData) -> bool:
        # By the id in the page: what an event has changed is, for its visitor, an object with another number.
        return event.target is not None and event.target.elem_id in [
            trigger.__self__.elem_id for trigger in self.triggers
        ]

    def prepared(
        self, event: gr.EventData, before: Sequence[Component], values: Sequence[Any], outputs: Sequence[Component]
    ) -> list[Any]:
        """The values of `outputs`, of which this start prepares some, where those of `before` are `values`."""
        given = [values[before.index(component)] for component in self.inputs]
        told = {"event": event} if "event" in signature(self.prepare).parameters else {}
        made = dict(zip(self.outputs, self.prepare(*given, **told), strict=True))
        return [made.get(component, gr.skip()) for component in outputs]


class Keep(NamedTuple):
    """What is done with a run's last update when it is over: `function(last, *inputs)` gives `outputs`.

    It may be called twice for one run, so calling it again must change nothing.
    """

    function: Callable[..., Any]
    inputs: Sequence[Component]
    outputs: Sequence[Component]
    js: str | None = None
    """What the browser does before: a function of the same inputs, `last` not among those that it sees, that gives them
    as an array."""


class Runs:
    """The runs of one tab. While one is going, Stop stands in the place of the start button."""

    def __init__(
        self, start: gr.Button, stop: gr.Button, line: gr.HTML, locked: Sequence[Component], again: str = ""
    ) -> None:
        """`locked` cannot be used during a run; `again` is the key of its label when there is an answer."""
        self._start, self._stop, self._line, self._locked, self._again = start, stop, line, locked, again
        self._last = gr.State(Update())
        self._stopping = gr.State(False)

    def wire(
        self,
        answer: Callable[..., Iterator[tuple[Any, ...]]],
        inputs: Sequence[Component],
        outputs: Sequence[Component],
        starts: Sequence[Start],
        keep: Keep | None = None,
    ) -> None:
        """Connects each start with `answer`, a generator as made by `streaming.to_page`, and all of them with Stop."""
        triggers = [trigger for start in starts for trigger in start.triggers]
        before = list(dict.fromkeys(component for start in starts for component in start.inputs))
        prepared = list(dict.fromkeys(component for start in starts for component in start.outputs))

        # One event for all starts: each event costs time in every browser that opens the page.
        def begin(event: gr.EventData, *values: Any) -> tuple[Any, ...]:
            (start,) = (start for start in starts if start.is_triggered_by(event))
            return *start.prepared(event, before, values, prepared), Update(), False, *self._begun()

        begun = gr.on(triggers, begin, before, [*prepared, self._last, self._stopping, *self._shown()], **INSTANT)
        run: gr.events.Dependency = begun.success(
            answer,
            inputs,
            [*outputs, self._line, self._last],
            concurrency_limit=CONCURRENT_RUNS,
            **SILENT,
        )
        begun.success(None, js="() => falcon.begun()", **INSTANT)
        broken = json.dumps(stats.line(Update(error=say("stats.broken"))), ensure_ascii=False)
        begun.failure(None, None, self._line, js=f"() => falcon.notBegun({broken})", **INSTANT)
        # Gradio calls `then` after a run that succeeded, `failure` after one that failed, both after one cancelled.
        for over in (run.then, run.failure):
            if keep:  # First, so that whoever sees the end of a run has what it brought.
                over = over(keep.function, [self._last, *keep.inputs], keep.outputs, js=keep.js, **INSTANT).then
            settled = over(self._settle, [self._last, self._stopping], self._shown(), **INSTANT)
            settled.then(None, js=f"() => falcon.over('{self._start.elem_id}')", **INSTANT)
        # Gradio waits for the function before it cancels, so that `_settle` knows why there is no more to come.
        self._stop.click(lambda: True, None, self._stopping, cancels=[run], **INSTANT)

    def _shown(self) -> list[Component]:
        """What changes when a run begins and when it is over."""
        return [self._line, self._start, self._stop, *self._locked]

    def _begun(self) -> list[Any]:
        return [stats.line(Update()), gr.update(visible=False), gr.update(visible=True), *self._locks(True)]

    def _settle(self, last: Update, stopping: bool) -> list[Any]:
        """The page after a run, however it ended."""
        label = {"value": say(self._again)} if self._again and last.text else {}
        line = stats.line(stats.ended(last, stopping))
        return [line, gr.update(visible=True, **label), gr.update(visible=False), *self._locks(False)]

    def _locks(self, locked: bool) -> list[Any]:
        return [
            gr.HTML(locked=locked) if isinstance(component, gr.HTML) else gr.update(interactive=not locked)
            for component in self._locked
        ]


def submit_with(box: gr.Textbox, button: gr.Button) -> None:
    """Enter in `box` presses `button`, which is not there to be pressed while a run is going."""
    box.submit(None, js=f"() => document.getElementById('{button.elem_id}')?.click()")
