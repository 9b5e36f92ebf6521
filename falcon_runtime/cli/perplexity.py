"""Perplexity of a text, the common measure of what a recipe loses."""

import math
import time
from dataclasses import dataclass

from ..errors import InvalidRequest
from ..runtime import FalconRuntime
from ..status import Count, Report


@dataclass(frozen=True)
class Perplexity:
    perplexity: float
    tokens: int
    """Tokens that were scored."""
    seconds: float

    def __str__(self) -> str:
        return f"perplexity {self.perplexity:.4f} of {self.tokens:,} tokens in {self.seconds:.1f} s"


def measure(
    runtime: FalconRuntime,
    text: str,
    window: int = 256,
    max_windows: int | None = None,
    report: Report = lambda status: None,
) -> Perplexity:
    """exp of the mean negative log-likelihood over non-overlapping windows of `window` tokens.

    The text is tokenized without special tokens; in each window every token but the first is scored, given those of its
    window before it; the rest that fills no window is left out. Errors: InvalidRequest where there is no whole window.
    """
    if window < 2:
        raise InvalidRequest(f"A window needs at least 2 tokens, not {window}.")
    tokens = runtime.tokenize(text)
    began = time.perf_counter()
    starts = range(0, len(tokens) - window + 1, window)[:max_windows]
    if not starts:
        raise InvalidRequest(f"The text has {len(tokens):,} tokens, fewer than one window of {window:,}.")
    count, scores = Count("Windows scored", len(starts), report), list[float]()
    for start in starts:
        scores += runtime.score(tokens[start : start + window])
        count.add()
    return Perplexity(math.exp(-sum(scores) / len(scores)), len(scores), time.perf_counter() - began)
