"""Who drafts how many tokens for whom: the text itself or the draft model, as many as pay."""

from collections.abc import Mapping, Sequence

from .draft_model import DraftModel
from .request import Request
from .sequences import common_prefix
from .speculation import Allotment, Draft, Offer, Prices, allot

FORCED = 0.95
"""How likely tokens are accepted that spell the only text that a constraint allows: there may be other spellings."""


class Drafting:
    """Makes the drafts for the requests of one program, of at most `most` tokens each, which fit `context`.

    `costs` are the times of the program's forwards of 1, 2, 3, ... rows, in the unit of the draft model's.
    """

    def __init__(self, costs: Sequence[float], most: int, context: int, model: DraftModel | None = None):
        self.most, self._context, self._model = most, context, model
        self._prices = Prices(costs, model.costs if model else ())

    def begin(self, slot: int, request: Request) -> None:
        """The request has the slot now."""
        if self._model and request.params:
            self._model.begin(slot, request.tokens)

    def drafts(
        self, decoding: Mapping[int, Request], prefilling: Mapping[int, Request], rows: int, budget: int
    ) -> dict[int, Draft]:
        """One for each slot that decodes, perhaps of no tokens; and feeds the draft model with the prompts that the
        others prefill, at most `budget` tokens together. There are `rows` in the program's next forward anyway."""
        guesses = {slot: self._guess(request) for slot, request in decoding.items()}
        offers = [guess.offer for guess in guesses.values()]
        plan = allot(offers, self._prices, rows, len(decoding))
        drafted: Mapping[int, Draft] = {}
        if self._model:
            offers, plan = self._with_model(self._model, decoding, guesses, plan, rows)
            counts = {slot: plan.counts[i] for i, slot in enumerate(decoding) if offers[i].by_model and plan.counts[i]}
            fed = {slot: prefilling[slot] for slot in self._will_be_drafted(self._model, decoding, prefilling)}
            fed |= {slot: decoding[slot] for slot in counts}
            # After a forward that accepted all of a draft, a cache lacks two tokens.
            drafted = self._model.draft(fed, counts, budget + 2 * len(counts))
        result = {}
        for slot, count in zip(decoding, plan.counts, strict=True):
            # As long as the draft model is not up to the text, guesses stand in.
            result[slot] = _allowed(decoding[slot], drafted.get(slot) or guesses[slot].first(count))
            if slot in drafted:
                decoding[slot].proposer.learn(guesses[slot].first(0), 0)
        return result

    def learn(self, slot: int, request: Request, draft: Draft, tokens: Sequence[int]) -> None:
        """The request got `tokens`, for which `draft` had been made."""
        accepted = common_prefix(draft.tokens, tokens)
        request.drafted += len(draft.tokens)
        request.accepted += accepted
        if draft.by_model and self._model:
            request.draft_model = self._model.name
            request.drafted_by_model += len(draft.tokens)
            request.accepted_by_model += accepted
            self._model.learn(slot, request.tokens, draft, tokens)
        else:
            request.proposer.learn(draft, accepted)
            if self._model:
                self._model.forget(slot)

    def _guess(self, request: Request) -> Draft:
        """What its text, or its constraint, says that may follow."""
        room, text = self._room(request), request.proposer.propose(request.tokens, self._room(request))
        forced = request.follower.forced(room) if request.follower else ()
        return Draft(forced, FORCED) if forced else _allowed(request, text)

    def _room(self, request: Request) -> int:
        """How many tokens may be drafted for it."""
        assert request.params
        # The last token of all is never fed, so it may be drafted but needs no room in the cache.
        room = min(request.params.max_new_tokens - request.generated, self._context - len(request.tokens)) - 1
        return max(0, min(self.most, room))

    def _with_model(
        self,
        model: DraftModel,
        decoding: Mapping[int, Request],
        guesses: Mapping[int, Draft],
        without: Allotment,
        rows: int,
    ) -> tuple[list[Offer], Allotment]:
        """For each slot the offer of whichever of the two brings it more tokens per time, and the plan that follows
        from that; the guesses and their plan if that one is better all the same."""
        offers = []
        for slot, request in decoding.items():
            both = guesses[slot].offer, model.offer(slot, request.tokens, self._room(request))
            offers.append(max(both, key=lambda offer: allot([offer], self._prices, 1, 1).rate))  # A draw: the guess.
        plan = allot(offers, self._prices, rows, len(decoding))
        if plan.rate > without.rate:
            return offers, plan
        return [guess.offer for guess in guesses.values()], without

    def _will_be_drafted(
        self, model: DraftModel, decoding: Mapping[int, Request], prefilling: Mapping[int, Request]
    ) -> list[int]:
        """The slots that prefill for which the draft model would draft if all that run were decoding."""
        running = {slot: request for slot, request in {**decoding, **prefilling}.items() if request.params}
        offers = [model.offer(slot, request.tokens, self._room(request)) for slot, request in running.items()]
        plan = allot(offers, self._prices, len(running), len(running)) if running else Allotment((), 0)
        return [slot for slot, count in zip(running, plan.counts, strict=True) if count and slot in prefilling]


def _allowed(request: Request, draft: Draft) -> Draft:
    """The draft up to the first token that the request's constraint forbids."""
    return draft.first(request.follower.allowed(draft.tokens)) if request.follower else draft
