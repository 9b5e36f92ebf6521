"""What the engine tells of a request, with each forward. The parent knows this much of the engine, and no kernels."""

from dataclasses import dataclass

from ..chunk import FinishReason, Stats, TokenLogprobs


@dataclass(frozen=True)
class Step:
    """What one forward brought one request."""

    request: int
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    stats: Stats
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Of each token, where the parameters ask for them."""
    scores: tuple[TokenLogprobs, ...] = ()
    """Of every token of the prompt but the first, where they are asked for: with the answer's first tokens or, where
    there is none, with the last step."""
    problem: str | None = None
    """Why the request cannot be carried out, in a sentence; the step is then its last."""
