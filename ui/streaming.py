"""The one place that turns the runtime's iterator of chunks into what the page and the API show."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from falcon_runtime import FalconRuntime
from falcon_runtime.chunk import Chunk, FinishReason, Stats
from falcon_runtime.errors import FalconError
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.status import Status

from . import stats

UPDATE_INTERVAL_S = 0.03
"""A model faster than a token in this time is shown several at once: eyes lose nothing, the server gains much."""
STATUS_INTERVAL_S = 0.25

Call = Callable[[SamplingParams], Iterator[Chunk]]


@dataclass(frozen=True)
class Update:
    """What there is to show of one request, at one moment."""

    text: str = ""
    """All of the answer so far."""
    stats: Stats | None = None
    """The engine's figures; None until the engine has the request."""
    finish_reason: FinishReason | None = None
    waiting_for: Status | None = None
    """The model's status while the request waits for it."""
    error: str = ""
    """The sentence of the error that ended the request."""


def updates(runtime: FalconRuntime, call: Call, sampling: Mapping[str, Any]) -> Iterator[Update]:
    """Runs a request: waits visibly for the model, then gives the answer as it grows.

    Closing the iterator cancels the request on the engine. Raises a `FalconError` where the request cannot be served.
    """
    params = SamplingParams(**sampling)
    yield Update()  # Gradio can cancel a generator only once it has yielded.
    yield from _until_ready(runtime)
    text = ""
    due = 0.0
    with closing(call(params)) as chunks:
        for chunk in chunks:
            text += chunk.text
            if chunk.finish_reason or time.monotonic() >= due:
                yield Update(text, chunk.stats, chunk.finish_reason)
                due = time.monotonic() + UPDATE_INTERVAL_S


def _until_ready(runtime: FalconRuntime) -> Iterator[Update]:
    """Updates with the model's status until it is loaded. Errors: those of `FalconRuntime.load`.

    The first call for an answer would load it as well, but silently and without a place to be cancelled.
    """
    if runtime.status.state == "ready":
        return
    errors: list[FalconError] = []

    def load() -> None:
        try:
            runtime.load()
        except FalconError as error:
            errors.append(error)

    loading = threading.Thread(target=load, daemon=True)
    loading.start()
    while loading.is_alive():
        yield Update(waiting_for=runtime.status)
        loading.join(STATUS_INTERVAL_S)
    if errors:
        raise errors[0]


def to_page(
    runtime: FalconRuntime, call: Call, sampling: Mapping[str, Any], show: Callable[[str], Any]
) -> Iterator[tuple[Any, str, Update]]:
    """Updates as a tab's outputs: `show(text so far)`, the statistics line, and the update itself.

    An error becomes the last update's sentence; the text that had come stays.
    """
    update = Update()
    with closing(updates(runtime, call, sampling)) as source:
        try:
            for update in source:
                yield show(update.text), stats.line(update), update
        except FalconError as error:
            update = replace(update, error=str(error), waiting_for=None)
            yield show(update.text), stats.line(update), update
