"""What there is to show of one request, which everything that shows it reads."""

from dataclasses import dataclass

from falcon_runtime.chunk import FinishReason, Stats, TokenLogprobs
from falcon_runtime.status import Status


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
    model: str = ""
    """The name of the model that answers."""
    prompt: tuple[int, ...] = ()
    """The tokens of the prompt."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Of all tokens so far, where the parameters ask for them."""
