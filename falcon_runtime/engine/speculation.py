"""Speculative decoding: drafted tokens are verified in one forward, which takes little longer than one token's.

What is verified is what plain decoding would have computed, and a drafted token is accepted only where it is the very
token that was sampled. For a draft that is certain of itself this is the standard acceptance rule (Leviathan et al.,
2023, arXiv:2211.17192): accepted with the model's probability of it, else drawn from the rest. So the distribution is
the model's, and each token gets the random number that it gets without drafts, whoever drafts: the text itself
(`PromptLookup`) or a smaller model (`drafting.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

MAX_DRAFTED = 7
"""Tokens that are drafted at a time, at most: with the one that is known, eight rows, beyond which they cost more."""


@dataclass(frozen=True)
class Offer:
    """So many tokens could be drafted for one sequence."""

    count: int = 0
    confidence: float = 0.0
    """The probability that the next one is accepted, if those before it are."""
    by_model: bool = False
    """Whether each of them takes a forward of the draft model; others are there already."""

    def values(self) -> list[float]:
        """How many tokens each of them can be expected to bring [count]."""
        return [self.confidence ** (i + 1) for i in range(self.count)]


@dataclass(frozen=True)
class Draft:
    """What may be the next tokens of one sequence."""

    tokens: tuple[int, ...] = ()
    confidence: float = 0.0
    """As in `Offer`."""
    origin: int = 0
    """What it was made of, for `Proposer.learn`."""
    by_model: bool = False

    @property
    def offer(self) -> Offer:
        return Offer(len(self.tokens), self.confidence, self.by_model)

    def first(self, count: int) -> "Draft":
        """Its first `count` tokens."""
        return replace(self, tokens=self.tokens[:count])


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


@dataclass(frozen=True)
class Allotment:
    counts: tuple[int, ...]
    """How many tokens to draft for each offer."""
    rate: float
    """Tokens per time that can be expected."""


@dataclass(frozen=True)
class Prices:
    """The times of forwards of 1, 2, 3, ... rows, in any unit: the model's, and those of a draft model."""

    verifying: Sequence[float]
    drafting: Sequence[float] = ()


def allot(offers: Sequence[Offer], prices: Prices, rows: int, decoding: int) -> Allotment:
    """How many tokens of each offer to draft and verify: those that are likeliest to be accepted, as many as pay.

    There are `rows` in the model's forward anyway, of which `decoding` bring a token each. What is maximized is the
    number of tokens that can be expected per time.
    """
    ranked = sorted(((value, i) for i, offer in enumerate(offers) for value in offer.values()), reverse=True)
    counts = [0] * len(offers)
    best = Allotment(tuple(counts), decoding / cost(prices.verifying, rows))
    expected, drafting = float(decoding), 0.0
    sharing = [0] * (1 + max((offer.count for offer in offers), default=0))
    """How many sequences have a part in each forward of the draft model."""
    for taken, (value, i) in enumerate(ranked, 1):
        # Within an offer each token is worth less than the one before it, so these are the first ones of each.
        expected += value
        if offers[i].by_model:
            depth = counts[i]
            drafting -= cost(prices.drafting, sharing[depth])
            sharing[depth] += 1
            drafting += cost(prices.drafting, sharing[depth])
        counts[i] += 1
        rate = expected / (cost(prices.verifying, rows + taken) + drafting)
        if rate > best.rate:
            best = Allotment(tuple(counts), rate)
    return best


def cost(costs: Sequence[float], rows: int) -> float:
    """The time of a forward of `rows` rows, nothing for none; from the last one that is known on, each row takes as
    long as on average until there."""
    known = len(costs)
    if rows <= known:
        return costs[rows - 1] if rows else 0.0
    return costs[-1] * rows / known


def interpolate(measured: dict[int, float]) -> list[float]:
    """The time of a forward of 1, 2, 3, ... rows, from that of some numbers of rows."""
    rows = sorted(measured)
    return list(np.interp(range(1, rows[-1] + 1), rows, [measured[count] for count in rows]))
