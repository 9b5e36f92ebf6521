"""How far a conversion is, and how long it will still take."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..status import Status
from .needs import in_words

LOWERING_PER_TRACING = 8.0
"""How many times longer lowering takes than tracing, 5 to 11 times: both walk the same graph in Python, so the duration
of the first foretells about that of the second."""


class Progress:
    def __init__(self, title: str, report: Callable[[Status], None]):
        self._title, self._report = title, report
        self._began: float | None = None

    def streaming(self, size: int, done: int, total: int) -> None:
        """So many of all the model's numbers are written, which will take `size` bytes."""
        now = time.monotonic()
        self._began = self._began or now
        left = (now - self._began) * (total - done) / done if done else None
        written = f"{in_words(round(size * done / total))} of {in_words(size)}"
        self._report(Status("converting", f"Converting {self._title}: {written} written,", done / total, left))

    @contextmanager
    def tracing(self) -> Iterator[Callable[[], None]]:
        """Reports every second while the block traces and lowers; it calls what it is given when tracing has ended."""
        began, done = time.monotonic(), threading.Event()
        expected: list[float] = []

        def tick() -> None:
            while not done.wait(1):
                elapsed = time.monotonic() - began
                message = f"Preparing {self._title}: a graph for its architecture, once"
                left = max(expected[0] - elapsed, 1) if expected else None
                self._report(Status("converting", message, None, left))

        def traced() -> None:
            expected.append((time.monotonic() - began) * (1 + LOWERING_PER_TRACING))

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield traced
        finally:
            done.set()
            thread.join()
