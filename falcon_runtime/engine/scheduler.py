"""The scheduler: many requests, one program.

The program keeps SLOTS sequences. A request takes the free slot whose loss costs least, gets what any slot's cache has
of its beginning, and prefills only the rest, in chunks; every forward carries the next chunk, or the next token and
some drafted ones, of every running request. Each step yields one `Step` per request that moved.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from ..chunk import FinishReason
from ..errors import NothingAllowed
from .constraints import Grammars
from .draft_model import DraftModel
from .drafting import Drafting
from .program import ForwardProgram, Logits
from .request import Request
from .sampler import Mask, passes
from .sequences import common_prefix, longest_prefix, shares
from .speculation import MAX_DRAFTED, Draft
from .step import Step

COPYING = 0.002
"""What a token costs that is copied from another slot's cache, in tokens to prefill: with the starter model 4 µs
instead of some milliseconds. Where the program copies nothing, it is prefilled again."""


@dataclass(frozen=True)
class Pace:
    """How much of prompts one forward prefills: small enough that a cancelled request stops soon, and that running
    answers do not stutter."""

    alone: int
    """Tokens while no answer is written."""
    beside: int
    """Tokens while one is."""


@dataclass
class Slot:
    cached: list[int] = field(default_factory=list)
    """The tokens whose keys and values are in the cache."""
    last_chunk: int = 0
    """Where the last chunk of the latest prompt began."""
    last_used: int = 0
    """How many requests had been admitted before its latest."""
    request: Request | None = None


@dataclass
class Part:
    """One slot's share of a forward."""

    slot: Slot
    tokens: list[int]
    start: int
    """Position of the first of them."""
    wanted: range
    """Which of `tokens` need their logits."""
    draft: Draft = field(default_factory=Draft)
    masks: "Future[list[Mask]] | None" = None
    """What the request's constraint allows after each of the tokens that are wanted."""


class Scheduler:
    """Runs requests on a program. `end_tokens` end an answer; `costs[r - 1]` is the time of a forward of r rows, in any
    unit, by which it decides how much to draft, from the text itself or with a draft model."""

    def __init__(
        self,
        program: ForwardProgram,
        end_tokens: tuple[int, ...],
        pace: Pace,
        costs: Sequence[float] = (1.0,),
        draft_model: DraftModel | None = None,
        grammars: Grammars | None = None,
    ):
        self.program = program
        self.end_tokens = frozenset(end_tokens)
        self.pace = pace
        self.slots = [Slot() for _ in range(program.slots)]
        self.waiting: deque[Request] = deque()
        self._admitted = 0
        self._copying = COPYING if program.copies else 1
        # Every slot can have its share of both limits at any time; of tokens, prompts get half at least.
        self._rows = program.max_rows // program.slots
        most = min(MAX_DRAFTED, self._rows - 1, program.max_tokens // (2 * program.slots) - 1)
        self._grammars = grammars
        self._beside = ThreadPoolExecutor(1, "falcon-masks")
        """Finds out what constraints allow while the forward is computed."""
        self._drafting = Drafting(costs, most, program.context, draft_model)

    @property
    def busy(self) -> bool:
        return bool(self.waiting) or any(slot.request for slot in self.slots)

    def submit(self, request: Request) -> Step:
        """Takes a request with 1 to `context` - 1 tokens (a scoring one: 2 to `context`). The step says how many are
        ahead of it."""
        self.waiting.append(request)
        return self._waits(request, len(self.waiting) - 1)

    def cancel(self, request_id: int) -> Step | None:
        """Ends a request now; its slot keeps what it has prefilled. None where the request is over already."""
        for request in self.waiting:
            if request.id == request_id:
                self.waiting.remove(request)
                return self._step(request, finish="cancelled")
        for slot in self.slots:
            if slot.request and slot.request.id == request_id:
                request, slot.request = slot.request, None
                return self._step(request, finish="cancelled")
        return None

    def step(self) -> Iterator[Step]:
        """One forward for all running requests."""
        admitted = self._admit()
        yield from [
            self._waits(request, place) for place, request in enumerate(self.waiting) if admitted or request.filled
        ]
        yield from self._refused()
        if not any(slot.request for slot in self.slots):
            return
        parts = self._parts()
        for part in parts:
            request = part.slot.request
            if request and request.follower and request.filled + len(part.tokens) >= len(request.tokens):
                part.masks = self._beside.submit(request.follower.masks, part.draft.tokens)
        rows, offset = list[int](), 0
        for part in parts:
            rows += [offset + i for i in part.wanted]
            offset += len(part.tokens)
        logits = self.program.forward([part.tokens for part in parts], [part.start for part in parts], rows)
        first = 0
        for part in parts:
            if part.slot.request:
                yield self._advance(part, part.slot.request, logits[first : first + len(part.wanted)])
            first += len(part.wanted)

    def _step(
        self, request: Request, tokens: tuple[int, ...] = (), finish: FinishReason | None = None, position: int = 0
    ) -> Step:
        return Step(request.id, tokens, finish, request.stats(self.program.context, position))

    def _waits(self, request: Request, place: int) -> Step:
        """Tells the request at `place` in the queue how many must end before it can start."""
        free = sum(slot.request is None for slot in self.slots)
        return self._step(request, position=max(0, place + 1 - free))

    def _admit(self) -> bool:
        """Gives free slots to waiting requests, first come first served; whether any was admitted. One whose beginning
        another request is prefilling waits for that, and a slot for it is kept free."""
        admitted = False
        free = sum(slot.request is None for slot in self.slots)
        for request in list(self.waiting)[:free]:
            if self._being_prefilled(request):
                request.filled = request.cached = self._held(request)  # What it will get, for who looks on.
            else:
                self.waiting.remove(request)
                self._begin(request)
                admitted = True
        return admitted

    def _begin(self, request: Request) -> None:
        """Gives the request a slot, with what any slot's cache has of its beginning."""
        held = self._held(request)
        free = [i for i, slot in enumerate(self.slots) if slot.request is None]
        chosen = min(free, key=lambda i: self._price(self.slots[i], request, held))
        source = chosen
        if self.program.copies:
            source = longest_prefix(request.tokens, [slot.cached for slot in self.slots], chosen)
        reused = self._reusable(self.slots[source], request)
        if reused and source != chosen:
            self.program.copy(source, chosen, reused)
        request.start(reused, self.end_tokens)
        slot = self.slots[chosen]
        if request.params and request.params.constraint and self._grammars:
            request.follow(self._grammars, request.params.constraint)
        slot.cached, slot.request, slot.last_used = request.tokens[:reused], request, self._admitted
        self._drafting.begin(chosen, request)
        self._admitted += 1

    def _held(self, request: Request) -> int:
        """How many tokens of its beginning there are in a slot, for a request that may reuse them."""
        return max(common_prefix(slot.cached, request.tokens) for slot in self.slots) if request.reuses_cache else 0

    def _refused(self) -> Iterator[Step]:
        """Ends the requests whose constraints cannot be followed."""
        for slot in self.slots:
            request = slot.request
            if request and request.follower and (problem := request.follower.problem):
                yield self._refuse(slot, request, problem)

    def _refuse(self, slot: Slot, request: Request, problem: str) -> Step:
        slot.request = None
        stats = request.stats(self.program.context)
        return Step(request.id, (), "cancelled", stats, problem=f"constraint: {problem}")

    def _being_prefilled(self, request: Request) -> bool:
        """Whether another request, which is as far as any slot, is prefilling more of this one's beginning: enough that
        waiting is no slower. Such a request goes on with every forward, or leaves, so that nobody waits in vain."""
        held, enough = self._held(request), self.pace.beside
        reusable = request.reuses_cache and self.program.copies
        return reusable and any(
            len(slot.cached) >= held and common_prefix(slot.request.tokens, request.tokens) >= held + enough
            for slot in self.slots
            if slot.request
        )

    def _price(self, slot: Slot, request: Request, held: int) -> tuple[float, int]:
        """What taking this slot costs, in tokens to prefill: those that no slot would have any more and that the slot's
        last visitor would miss, whose coming back is taken to be half as likely with every round of requests since; and
        copying the `held` ones, unless the slot has them itself."""
        common = common_prefix(slot.cached, request.tokens)
        kept = max([common, *(common_prefix(slot.cached, other.cached) for other in self.slots if other is not slot)])
        age = (self._admitted - slot.last_used) / len(self.slots)
        copied = held if common < held else 0
        return self._copying * copied + (len(slot.cached) - kept) * 0.5 ** (1 + age), slot.last_used

    def _reusable(self, slot: Slot, request: Request) -> int:
        """How many of the slot's cached tokens serve the request."""
        if not request.reuses_cache:
            return 0
        reusable = common_prefix(slot.cached, request.tokens)
        if not self.program.rewinds:
            # What else is in the cache would have to be taken back.
            return reusable if reusable == len(slot.cached) < len(request.tokens) else 0
        if reusable < len(request.tokens):
            # The last token is always prefilled, since its logits are what the answer starts from.
            return min(reusable, len(request.tokens) - 1)
        # A prompt again, say for another try. Its last chunk is prefilled as it was before: the same rows computed in
        # other company differ in their last bits, and the likeliest answer should not depend on that.
        return min(slot.last_chunk, len(request.tokens) - 1)

    def _parts(self) -> list[Part]:
        """What each slot adds to the next forward."""
        running = {i: slot.request for i, slot in enumerate(self.slots) if slot.request}
        decoding = {i: request for i, request in running.items() if request.decodes}
        prefilling = {i: request for i, request in running.items() if not request.decodes}
        budget = self.pace.beside if decoding else self.pace.alone
        chunks = self._chunks(prefilling, budget)
        drafts = self._drafting.drafts(decoding, prefilling, len(decoding) + sum(chunks.values()), budget)
        parts = []
        for i, slot in enumerate(self.slots):
            request = slot.request
            if request is None:
                parts.append(Part(slot, [], 0, range(0)))
            elif i in drafts:
                new = [request.tokens[-1], *drafts[i].tokens]
                parts.append(Part(slot, new, request.filled, range(len(new)), drafts[i]))
            else:
                new = request.tokens[request.filled : request.filled + chunks[i]]
                last = request.filled + len(new) == len(request.tokens)
                wanted = range(len(new) - last if request.scored is None else 0, len(new))
                parts.append(Part(slot, new, request.filled, wanted))
        return parts

    def _chunks(self, prefilling: Mapping[int, Request], budget: int) -> dict[int, int]:
        """How many tokens of each prompt to prefill, by slot."""
        needs = {
            i: request.to_prefill if request.scored is None else min(request.to_prefill, self._rows)
            for i, request in prefilling.items()
        }
        return shares(needs, min(budget, self.program.max_tokens - len(self.slots) * (1 + self._drafting.most)))

    def _advance(self, part: Part, request: Request, logits: Logits) -> Step:
        """What a forward's logits mean for one request: more of the prompt prefilled, scores, or tokens."""
        if request.scored is not None and not request.decodes:
            logits = self._score(part, request, logits)
        if request.sampler is None or not len(logits):
            self._fill(part, len(part.tokens))
            return self._step(request) if request.params or request.to_prefill else self._scored(part, request)
        assert request.params
        if not request.generated:
            part.slot.last_chunk = part.start
        given = len(part.tokens) - len(part.draft.tokens)
        tokens, logprobs = list[int](), []
        finish: FinishReason | None = None
        masks = part.masks.result() if part.masks else [None] * len(logits)
        for row, drafted, mask in zip(logits, [*part.draft.tokens, None], masks, strict=True):
            try:
                sampled = request.sampler.sample(row, mask)
            except NothingAllowed as error:
                return self._refuse(part.slot, request, str(error))
            tokens.append(sampled.token)
            if sampled.logprobs:
                logprobs.append(sampled.logprobs)
            request.tokens.append(sampled.token)
            finish = self._finish(request, sampled.token)
            if finish or sampled.token != drafted:
                break
        self._fill(part, given + len(tokens) - 1)
        request.took(len(tokens))
        self._drafting.learn(self.slots.index(part.slot), request, part.draft, tokens)
        if finish:
            part.slot.request = None
        stats, scores = request.stats(self.program.context), tuple(request.scores)
        request.scores.clear()
        return Step(request.id, tuple(tokens), finish, stats, tuple(logprobs), scores)

    def _finish(self, request: Request, token: int) -> FinishReason | None:
        """Whether the answer ends with `token`, its latest, and why."""
        assert request.params
        if request.follower:
            request.follower.take(token)
        if token in self.end_tokens or (request.follower and request.follower.over):
            return "stop"
        if request.loop and request.loop.add(token):
            return "repetition"
        if request.generated == request.params.max_new_tokens or len(request.tokens) == self.program.context:
            return "length"
        return None

    def _fill(self, part: Part, count: int) -> None:
        """The first `count` tokens of the part are in the cache for good; the next ones will overwrite the others."""
        assert part.slot.request
        part.slot.cached += part.tokens[:count]
        part.slot.request.filled = len(part.slot.cached)

    def _score(self, part: Part, request: Request, logits: Logits) -> Logits:
        """Scores the tokens that follow those of the part in the prompt; the logits of what follows the prompt."""
        assert request.scored is not None
        targets = request.tokens[part.start + 1 : part.start + len(part.tokens) + 1]
        request.scores += [
            passes(len(row)).logprobs(row, target, request.scored)
            for row, target in zip(logits[: len(targets)], targets, strict=True)
        ]
        return logits[len(targets) :]

    def _scored(self, part: Part, request: Request) -> Step:
        """The end of a request that only scores."""
        part.slot.request = None
        return Step(request.id, (), "length", request.stats(self.program.context), scores=tuple(request.scores))
