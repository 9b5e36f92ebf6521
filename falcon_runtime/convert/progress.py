"""How far a conversion is, and how long it will still take."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..status import Status

LOWERING_PER_TRACING = 40.0
"""How many times longer lowering takes than tracing. Both walk the same graph in Python, so the ratio holds from model
to model and machine to machine, and the duration of the first foretells that of the second."""
READ, TRACED = 0.02, 0.08
"""Shares of the whole at the end of reading and of tracing."""


class Progress:
    def __init__(self, title: str, report: Callable[[Status], None]):
        self._title, self._report = title, report

    def reading(self, fraction: float) -> None:
        """`fraction` of the checkpoint is read."""
        self._report(Status("converting", f"Converting {self._title}: reading the weights,", READ * fraction))

    @contextmanager
    def lowering(self) -> Iterator[Callable[[], None]]:
        """Reports every second while the block lowers; the block calls what it is given when tracing has ended."""
        began, done = time.monotonic(), threading.Event()
        expected: list[float] = []

        def tick() -> None:
            while not done.wait(1):
                elapsed = time.monotonic() - began
                if not expected:
                    self._report(Status("converting", f"Converting {self._title}: tracing,", READ))
                    continue
                share = min(elapsed / expected[0], 0.99)
                left = max(expected[0] - elapsed, 1)
                progress = TRACED + (1 - TRACED) * share
                self._report(Status("converting", f"Converting {self._title}: lowering,", progress, left))

        def traced() -> None:
            expected.append((time.monotonic() - began) * (1 + LOWERING_PER_TRACING))

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield traced
        finally:
            done.set()
            thread.join()
