"""Where a model is on its way from a name to an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["idle", "downloading", "converting", "loading", "ready", "failed"]


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
        if self.eta_s is not None:
            text += f", about {_duration(self.eta_s)} left"
        return text


Report = Callable[[Status], None]
"""Takes a status as it changes."""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
