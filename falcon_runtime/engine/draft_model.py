"""The draft model: a smaller model with the same vocabulary, which drafts for another one.

Sources: Leviathan et al., 2023, arXiv:2211.17192; Chen et al., 2023, arXiv:2302.01318. Their rule accepts a token that
was drawn from the draft's distribution q with the probability min(1, p / q), else draws from what p has left. Here the
draft draws each token as the request is about to: from its own logits, but with all of the request's options and with
the very random number that is next (`Sampler.fork`); and a token is accepted where the model's logits then lead to the
same one. So the text is the model's by construction, whatever is drafted and whatever the options are, and a seed gives
the same text with a draft model and without. Equal distributions always agree, as under the papers' rule. Where they
differ theirs accepts somewhat more, but with random numbers of its own: a text would depend on what was drafted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from .program import ForwardProgram, Logits
from .request import Request
from .sequences import common_prefix, longest_prefix, shares
from .speculation import Draft, Offer

USUAL = 0.6
"""How often a drafted token is accepted as long as nothing is known: of models of one family, mostly more often."""
RATE, LASTING_RATE = 0.1, 0.01
"""How fast the estimate follows what is accepted: that of one text, and the one that texts begin with."""
FORGETTING = 0.01
"""Where drafts did not pay, the estimate slowly returns to the usual one, so that they are tried again."""


@dataclass
class Place:
    """What a draft model has of one slot."""

    cached: list[int] = field(default_factory=list)
    """The tokens whose keys and values are in its cache: a beginning of the slot's text."""
    confidence: float = USUAL


class DraftModel:
    """A program that drafts for the slots of another one, with a cache of its own that follows their texts.

    It may have fewer slots, the others getting no drafts from it, or a shorter context, beyond which it has none.
    `costs` are the times of its forwards, in the unit of the other's; `end_tokens` those after which nothing follows.
    """

    def __init__(self, program: ForwardProgram, costs: Sequence[float], end_tokens: Sequence[int] = (), name: str = ""):
        self.costs, self.name = list(costs), name
        self._program = program
        self._end_tokens = frozenset(end_tokens)
        self._places = [Place() for _ in range(program.slots)]
        self._lasting = USUAL

    def begin(self, slot: int, text: Sequence[int]) -> None:
        """The slot has another text now, of which the cache gets what any slot's has."""
        if slot < len(self._places):
            caches = [place.cached for place in self._places]
            source = longest_prefix(text, caches, slot)
            # The last token is always fed, since its logits are what a draft starts from.
            count = min(common_prefix(caches[source], text), len(text) - 1)
            if source != slot:
                self._program.copy(source, slot, count)
            self._places[slot] = Place(list(text[:count]), self._lasting)

    def offer(self, slot: int, text: Sequence[int], room: int) -> Offer:
        """What it could draft after the slot's text, at most `room` tokens."""
        if slot >= len(self._places):
            return Offer()
        # The last one that it drafts is never fed, so it needs no room in the cache.
        count = min(room, self._program.context - len(text) + 1)
        return Offer(max(0, count), self._places[slot].confidence, by_model=True)

    def draft(self, requests: Mapping[int, Request], counts: Mapping[int, int], budget: int) -> dict[int, Draft]:
        """Feeds what the caches lack of the texts of `requests`, by slot, at most about `budget` tokens together; and
        drafts `counts[slot]` tokens for each slot whose cache has then all of its text, token by token for all."""
        needs = {slot: len(request.tokens) - len(self._places[slot].cached) for slot, request in requests.items()}
        fed = shares({slot: need for slot, need in needs.items() if need}, min(budget, self._program.max_tokens))
        drafting = [slot for slot in counts if counts[slot] and fed.get(slot) == needs[slot]]
        samplers = {slot: sampler.fork() for slot in drafting if (sampler := requests[slot].sampler)}
        drafted: dict[int, list[int]] = {slot: [] for slot in drafting}
        new = {slot: self._missing(slot, requests[slot].tokens, count) for slot, count in fed.items()}
        while new:
            for slot, row in zip(drafting, self._forward(new, drafting), strict=True):
                drafted[slot].append(samplers[slot].next(row))
            drafting = [slot for slot in drafting if self._goes_on(drafted[slot], counts[slot])]
            new = {slot: drafted[slot][-1:] for slot in drafting}
        return {
            slot: Draft(tuple(tokens), self._places[slot].confidence, by_model=True) for slot, tokens in drafted.items()
        }

    def learn(self, slot: int, text: Sequence[int], draft: Draft, tokens: Sequence[int]) -> None:
        """The slot's text ends with `tokens` now, for which `draft` had been made."""
        place, accepted = self._places[slot], common_prefix(draft.tokens, tokens)
        # Going back is writing again: what was drafted beyond will be overwritten.
        del place.cached[len(text) - len(tokens) + accepted :]
        for i in range(min(len(draft.tokens), len(tokens))):  # An answer may end within a draft.
            right = i < accepted
            place.confidence += RATE * (right - place.confidence)
            self._lasting += LASTING_RATE * (right - self._lasting)

    def forget(self, slot: int) -> None:
        """Nothing was drafted for the slot."""
        if slot < len(self._places):
            place = self._places[slot]
            place.confidence += FORGETTING * (USUAL - place.confidence)

    def _missing(self, slot: int, text: Sequence[int], count: int) -> Sequence[int]:
        start = len(self._places[slot].cached)
        return text[start : start + count]

    def _goes_on(self, drafted: Sequence[int], count: int) -> bool:
        return len(drafted) < count and drafted[-1] not in self._end_tokens

    def _forward(self, new: Mapping[int, Sequence[int]], wanted: Sequence[int]) -> Logits:
        """Feeds the slots' new tokens; logits [len(wanted), vocabulary] after the last one of each slot that is
        wanted."""
        tokens = [new.get(slot, ()) for slot in range(len(self._places))]
        starts = [len(place.cached) for place in self._places]
        ends = list(accumulate(map(len, tokens)))
        logits = self._program.forward(tokens, starts, [ends[slot] - 1 for slot in wanted])
        for place, fed in zip(self._places, tokens, strict=True):
            place.cached += fed
        return logits
