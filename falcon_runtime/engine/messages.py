"""What the engine's process and its parent tell each other, besides `Step`s and errors."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import FalconError
from ..sampling import SamplingParams


@dataclass(frozen=True)
class Compiling:
    """The kernels are being compiled, as they are once for each processor, which takes some time."""


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""

    forward_s: float
    """Seconds that the longest step takes: a forward of the model, and one of the draft model. While there is work,
    each step brings a message."""
    forwards: Mapping[int, float]
    """Seconds of forwards of the model by their tokens, a quarter of the context being filled."""
    draft_model: str | None = None
    """The title of the draft model that was loaded too."""
    draft_problem: FalconError | None = None
    """Why the one that was asked for could not be."""


@dataclass(frozen=True)
class Submit:
    request: int
    tokens: tuple[int, ...]
    params: SamplingParams | None
    """None to score the tokens instead of continuing them."""


@dataclass(frozen=True)
class Cancel:
    request: int
