"""The one place that turns the runtime's iterator of chunks into what the page and the API show."""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import closing
from contextvars import copy_context
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.chunk import TokenLogprobs
from falcon_runtime.errors import FalconError
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
from falcon_runtime.sampling import SamplingParams

from . import stats
from .update import Update

UPDATE_INTERVAL_S = 0.03
"""A model faster than a token in this time is shown several at once: eyes lose nothing, the server gains much."""
LINE_INTERVAL_S = 0.2
STATUS_INTERVAL_S = 1

Updates = Generator[Update, None, None]
Call = Callable[[FalconRuntime, SamplingParams], Generation]
"""Asks a runtime for an answer."""


def updates(fleet: Fleet, call: Call, sampling: Mapping[str, Any], model: str | None = None) -> Updates:
    """Runs a request on `model` (None: the current one): waits visibly for it, then gives the answer as it grows.

    Closing the iterator cancels the request on the engine. Raises a `FalconError` where the request cannot be served.
    """
    params = SamplingParams(**sampling)
    yield Update()  # Gradio can cancel a generator only once it has yielded.
    with fleet.lease(model) as runtime:
        yield from _until_ready(fleet, runtime)
        text, logprobs = "", list[TokenLogprobs]()
        due = 0.0
        with closing(call(runtime, params)) as chunks:
            for chunk in chunks:
                text += chunk.text
                logprobs += chunk.logprobs
                if chunk.finish_reason or time.monotonic() >= due:
                    yield Update(
                        text,
                        chunk.stats,
                        chunk.finish_reason,
                        model=runtime.name,
                        prompt=chunks.prompt,
                        logprobs=tuple(logprobs),
                    )
                    due = time.monotonic() + UPDATE_INTERVAL_S


def _until_ready(fleet: Fleet, runtime: FalconRuntime) -> Iterator[Update]:
    """Updates with the model's status until it is loaded. Errors: those of `Fleet.ready`.

    The first call for an answer would load it as well, but silently and without a place to be cancelled.
    """
    if runtime.status.state == "ready":
        return
    loading = fleet.begin_ready(runtime)
    while not loading.done():
        yield Update(waiting_for=runtime.status)
        wait([loading], STATUS_INTERVAL_S)
    loading.result()


def to_page(
    fleet: Fleet,
    call: Call,
    sampling: Mapping[str, Any],
    show: Callable[[Update], tuple[Any, ...]],
    model: str | None = None,
) -> Generator[tuple[Any, ...], None, None]:
    """Updates of `model` (None: the current one) as a tab's outputs: what `show` makes of each, the statistics line,
    and the update itself.

    An error becomes the last update's sentence; the text that had come stays.
    """
    lines = Lines()
    with closing(told(updates(fleet, call, sampling, model))) as source:
        for update in source:
            yield *show(update), lines.show(update), update


class Lines:
    """The statistics line of one run, not drawn more often than figures can be read."""

    def __init__(self) -> None:
        self._due = 0.0

    def show(self, update: Update) -> Any:
        """The line as HTML, or that it stays as it is."""
        now = time.monotonic()
        if now < self._due and not (update.finish_reason or update.error):
            return gr.skip()
        self._due = now + LINE_INTERVAL_S
        return stats.line(update)


def told(source: Updates) -> Updates:
    """The updates of `source`, where an error becomes the sentence of one more update."""
    update = Update()
    with closing(source):
        try:
            for update in source:
                yield update
        except FalconError as error:
            yield replace(update, error=str(error), waiting_for=None)


def together(sources: Sequence[Updates]) -> Generator[list[Update], None, None]:
    """Several requests at once: the latest update of each [len(sources)], whenever there are new ones.

    Closing the iterator cancels them all, without waiting.
    """
    latest = [Update() for _ in sources]
    news: SimpleQueue[tuple[int, Update | None]] = SimpleQueue()
    closed = threading.Event()

    def run(number: int, source: Updates) -> None:
        try:
            with closing(source):
                for update in source:
                    if closed.is_set():
                        return
                    news.put((number, update))
        finally:
            news.put((number, None))

    for number, source in enumerate(sources):
        threading.Thread(target=copy_context().run, args=(run, number, told(source)), daemon=True).start()
    running = len(sources)
    try:
        yield list(latest)
        while running:
            number, update = news.get()
            if update is None:
                running -= 1
                continue
            latest[number] = update
            if news.empty() or update.finish_reason or update.error:
                yield list(latest)
    finally:
        closed.set()
