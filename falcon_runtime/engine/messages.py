"""What the engine's process and its parent tell each other, besides `Step`s and errors."""

from dataclasses import dataclass

from ..sampling import SamplingParams


@dataclass(frozen=True)
class Compiling:
    """The kernels are being compiled, as they are once for each processor, which takes some time."""


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""

    forward_s: float
    """Seconds that the longest forward takes. While there is work, each one brings a message."""


@dataclass(frozen=True)
class Submit:
    request: int
    tokens: tuple[int, ...]
    params: SamplingParams | None
    """None to score the tokens instead of continuing them."""


@dataclass(frozen=True)
class Cancel:
    request: int
