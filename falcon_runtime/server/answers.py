"""Answers for asyncio. The library's iterators wait; each of them runs in a thread of its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import wait
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from ..chunk import Chunk, FinishReason, Stats, TokenLogprobs
from ..fleet import Fleet
from ..generation import Generation
from ..runtime import FalconRuntime
from ..text.calls import CallReader
from .failures import NotReady

LOOK_S = 0.1
"""How often it is looked whether anybody still waits for a model to be loaded."""
T = TypeVar("T")
Ask = Callable[[FalconRuntime], Generation]
"""Asks a model for an answer."""


class Answer:
    """A generation on its way: an asynchronous iterator of its chunks. Use it as a context manager: what is left is
    then not generated.

    `model` is the name of a model of the fleet (None: the current one).
    """

    def __init__(self, fleet: Fleet, model: str | None, ask: Ask, wait: bool = True) -> None:
        self._fleet, self._model, self._ask, self._wait = fleet, model, ask, wait
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
        self._begun: asyncio.Future[FalconRuntime] = self._loop.create_future()
        self._generation: Generation | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="falcon-answer", daemon=True).start()

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        """The engine stops within one step."""
        self._closed.set()
        if self._generation:
            self._generation.close()

    @property
    def prompt(self) -> tuple[int, ...]:
        """Its tokens, once the request has begun."""
        return self._generation.prompt if self._generation else ()

    def reader(self) -> CallReader:
        """What tells calls of functions from words in the answer, once the request has begun."""
        assert self._generation
        return self._generation.reader()

    async def begun(self) -> FalconRuntime:
        """The model that answers, once it has taken the request. Errors: those of `FalconRuntime.generate`, of
        `Fleet.lease` and `Fleet.ready`; NotReady."""
        return await asyncio.shield(self._begun)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while (news := await self._news.get()) is not None:
            if isinstance(news, Exception):
                raise news
            yield news

    def _run(self) -> None:
        try:
            with self._fleet.lease(self._model) as runtime:
                if not self._wait and runtime.status.state != "ready":
                    if runtime.status.state in ("idle", "failed"):
                        runtime.load(wait=False)
                    raise NotReady(f"{runtime.title} is not ready: {runtime.status}. Try again in a few seconds.")
                if not self._ready(runtime):
                    return
                with closing(self._ask(runtime)) as self._generation:
                    self._tell(partial(self._begun.set_result, runtime))
                    for chunk in self._generation:
                        if self._closed.is_set():
                            break
                        self._tell(partial(self._news.put_nowait, chunk))
        except Exception as error:
            self._tell(partial(self._fail, error))
        finally:
            self._tell(partial(self._news.put_nowait, None))

    def _ready(self, runtime: FalconRuntime) -> bool:
        """Returns when the model can answer, or nobody waits for that any more, whose place is free then; whether
        somebody does. Errors: those of `Fleet.ready`."""
        if runtime.status.state != "ready":
            loading = self._fleet.begin_ready(runtime)
            while not loading.done() and not self._closed.is_set():
                wait([loading], LOOK_S)
            if loading.done():
                loading.result()
        return not self._closed.is_set()

    def _fail(self, error: Exception) -> None:
        if self._begun.done():
            self._news.put_nowait(error)
        else:
            self._begun.set_exception(error)
            self._begun.exception()  # Nobody may be waiting for it any more, which is no news for the log.

    def _tell(self, news: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # The server has ended, and its loop.
            self._loop.call_soon_threadsafe(news)


async def all_begun(answers: Sequence[Answer]) -> FalconRuntime:
    """The model that answers, once it has taken all of one request."""
    runtimes = [await answer.begun() for answer in answers]
    return runtimes[0]


@dataclass(frozen=True)
class Whole:
    """An answer that has come to its end."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...]
    finish_reason: FinishReason
    stats: Stats


async def whole(answer: Answer) -> Whole:
    """All of an answer. Errors: those of `Generation`."""
    chunks = [chunk async for chunk in answer]
    return Whole(
        "".join(chunk.text for chunk in chunks),
        tuple(token for chunk in chunks for token in chunk.token_ids),
        tuple(token for chunk in chunks for token in chunk.logprobs),
        chunks[-1].finish_reason or "stop",
        chunks[-1].stats,
    )


async def together(answers: Sequence[Answer]) -> AsyncIterator[tuple[int, Chunk]]:
    """The chunks of several answers as they come, each with the number of its answer."""
    news: asyncio.Queue[tuple[int, Chunk | Exception | None]] = asyncio.Queue()

    async def read(number: int, answer: Answer) -> None:
        try:
            async for chunk in answer:
                news.put_nowait((number, chunk))
        except Exception as error:
            news.put_nowait((number, error))
        news.put_nowait((number, None))

    readers = [asyncio.create_task(read(number, answer)) for number, answer in enumerate(answers)]
    try:
        running = len(readers)
        while running:
            number, item = await news.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                running -= 1
            else:
                yield number, item
    finally:
        for reader in readers:
            reader.cancel()


class Gone(Exception):
    """The client does not wait for its answer any more."""


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it is cancelled when the client goes away. Errors: Gone."""

    async def leave() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.create_task(work), asyncio.create_task(leave())
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Gone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.wait([working, leaving])
