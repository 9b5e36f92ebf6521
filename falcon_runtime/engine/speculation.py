"""Speculative decoding: drafted tokens are verified in one forward, which takes little longer than one token's.

What is verified is what plain decoding would have computed, and a drafted token is accepted only where it is the very
token that was sampled. For a draft that is certain of itself this is the standard acceptance rule (Leviathan et al.,
2023, arXiv:2211.17192): accepted with the model's probability of it, else drawn from the rest. So the distribution is
the model's, and each token gets the random number that it gets without drafts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

MAX_DRAFTED = 7
"""Tokens that are drafted at a time, at most: with the one that is known, eight rows, beyond which they cost more."""


@dataclass(frozen=True)
class Draft:
    """What may be the next tokens of one sequence."""

    tokens: tuple[int, ...] = ()
    confidence: float = 0.0
    """The probability that the next one is accepted, if those before it are."""
    origin: int = 0
    """What it was made of, for `Proposer.learn`."""

    def first(self, count: int) -> "Draft":
        """Its first `count` tokens."""
        return replace(self, tokens=self.tokens[:count])

    def values(self) -> list[float]:
        """How many tokens each of them can be expected to bring [len(tokens)]."""
        return [self.confidence ** (i + 1) for i in range(len(self.tokens))]


class Proposer(Protocol):
    """Drafts how one sequence goes on."""

    def propose(self, text: Sequence[int], count: int) -> Draft:
        """At most `count` tokens that may follow `text`, which begins with what it was at the last call."""

    def learn(self, draft: Draft, accepted: int) -> None:
        """The tokens of `draft`, or those of them that paid, were verified; the first `accepted` were accepted."""


class PromptLookup:
    """Drafts what followed the last occurrence of the text's latest tokens.

    Source: prompt lookup decoding (Saxena, 2023), as in transformers' PromptLookupCandidateGenerator. Here longer
    matches go before shorter ones, and how often the drafts of each length were accepted is learned as the text grows.
    """

    LONGEST = 3
    # Of copied text nearly all are accepted, after a single common token few; the estimates soon follow the text.
    START = (0.2, 0.4, 0.7)
    RATE = 0.1
    FORGETTING = 0.02
    """Where drafts did not pay, the estimate slowly returns to its start, so that they are tried again."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        """Where each group of 1 to `LONGEST` tokens ends that another token follows, the last time that it occurs."""
        self._known = 0
        self._accepted = list(self.START)

    def propose(self, text: Sequence[int], count: int) -> Draft:
        for end in range(max(1, self._known), len(text)):
            for size in range(1, min(self.LONGEST, end) + 1):
                self._ends[tuple(text[end - size : end])] = end
        self._known = len(text)
        if count < 1:
            return Draft()
        for size in range(min(self.LONGEST, len(text)), 0, -1):
            if earlier := self._ends.get(tuple(text[-size:])):
                # Where the text ends before the draft does, it is in a loop.
                period = len(text) - earlier
                tokens = tuple(text[earlier + i % period] for i in range(count))
                return Draft(tokens, self._accepted[size - 1], size)
        return Draft()

    def learn(self, draft: Draft, accepted: int) -> None:
        if not draft.origin:
            return
        size = draft.origin - 1
        for i in range(min(len(draft.tokens), accepted + 1)):
            self._accepted[size] += self.RATE * ((i < accepted) - self._accepted[size])
        if not draft.tokens:
            self._accepted[size] += self.FORGETTING * (self.START[size] - self._accepted[size])


def allot(drafts: Sequence[Draft], costs: Sequence[float], rows: int, decoding: int) -> list[int]:
    """How many tokens of each draft to verify: those that are likeliest to be accepted, as many as pay.

    `costs[r - 1]` is the time of a forward of r rows. There are `rows` in it anyway, of which `decoding` bring a token
    each. What is maximized is the number of tokens that can be expected per time.
    """
    offers = sorted(((value, i) for i, draft in enumerate(drafts) for value in draft.values()), reverse=True)
    best, best_rate, expected = 0, decoding / cost(costs, rows), float(decoding)
    for count, (value, _) in enumerate(offers, 1):
        expected += value
        if (rate := expected / cost(costs, rows + count)) > best_rate:
            best, best_rate = count, rate
    # Within a draft each token is worth less than the one before it, so these are the first ones of each.
    counts = [0] * len(drafts)
    for _, i in offers[:best]:
        counts[i] += 1
    return counts


def cost(costs: Sequence[float], rows: int) -> float:
    """The time of a forward of `rows` rows; from the last one that is known on, each row takes as long as on average
    until there."""
    known = len(costs)
    return costs[rows - 1] if rows <= known else costs[-1] * rows / known


def interpolate(measured: dict[int, float]) -> list[float]:
    """The time of a forward of 1, 2, 3, ... rows, from that of some numbers of rows."""
    rows = sorted(measured)
    return list(np.interp(range(1, rows[-1] + 1), rows, [measured[count] for count in rows]))
