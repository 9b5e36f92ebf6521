"""Where a model is on its way from a name to an answer, and how far long work is."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["idle", "downloading", "converting", "loading", "ready", "failed", "working"]
"""`working`: the model is there, and something longer is done with it."""


@dataclass(frozen=True)
class Status:
    state: State = "idle"
    message: str = ""
    """One sentence for a person; for `failed` the error's own."""
    progress: float | None = None
    """0 to 1 where it is known."""
    eta_s: float | None = None
    """Seconds left where they can be told."""

    def __str__(self) -> str:
        text = self.message or self.state.capitalize()
        if self.progress is not None:
            text += f" {self.progress:.0%}"
        return ", ".join(filter(None, [text, self.left]))

    @property
    def left(self) -> str:
        """How long it will still take, in words; empty where that is not known."""
        return "" if self.eta_s is None else f"about {_duration(self.eta_s)} left"


Report = Callable[[Status], None]
"""Takes a status as it changes."""


class Count:
    """Reports how many of a number of things are done, and how long the others will take."""

    def __init__(self, what: str, total: int, report: Report, done: int = 0) -> None:
        """`done` of the `total` were done before; `what` stands before the numbers: "Windows scored"."""
        self._what, self._total, self._report = what, total, report
        self._before = self._done = done
        self._began = time.monotonic()
        self.add(0)

    def add(self, number: int = 1) -> None:
        """So many more are done."""
        self._done += number
        new, left = self._done - self._before, self._total - self._done
        eta = (time.monotonic() - self._began) * left / new if new else None
        message = f"{self._what}: {self._done:,} of {self._total:,},"
        self._report(Status("working", message, self._done / self._total, eta))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
