"""The scheduler: many requests, one program.

The program keeps SLOTS sequences. A request takes the free slot whose cached tokens share the longest prefix with it
and reads only the rest, in slices; every forward carries the next slice or token of every running request. Each step
yields one `Step` per request that moved.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..chunk import FinishReason, Stats
from ..sampling import SamplingParams, sample
from .program import ForwardProgram, Logits


@dataclass(frozen=True)
class Step:
    """What one forward brought one request."""

    request: int
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    stats: Stats
    scores: tuple[float, ...] = ()
    """Of a scoring request, with its last step: the log-probability of every token but the first."""


@dataclass
class Request:
    """One sequence on its way: `tokens` (prompt, then answer), of which `filled` are in the slot's KV cache."""

    id: int
    tokens: list[int]
    params: SamplingParams | None
    """None for a request that only scores its prompt."""
    arrived: float = field(default_factory=time.perf_counter)
    filled: int = 0
    cached: int = 0
    started: float = 0.0
    first_token: float | None = None
    last_token: float = 0.0
    scores: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)
        self.random = np.random.default_rng(self.params.seed if self.params else None)

    @property
    def reuses_cache(self) -> bool:
        """A seed promises the same text again, so nothing may hang on what the cache happens to hold: rows that were
        computed in other batches differ in their last bits. Scores need the logits of the whole prompt."""
        return self.params is not None and self.params.seed is None

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    def stats(self, queue_position: int = 0) -> Stats:
        now = time.perf_counter()
        read = min(self.filled, self.prompt_length) - self.cached
        reading = (self.first_token or now) - self.started
        writing = self.last_token - (self.first_token or 0.0)
        return Stats(
            prompt_tokens=self.prompt_length,
            cached_tokens=self.cached,
            prefilled_tokens=min(self.filled, self.prompt_length),
            prefill_tokens_per_second=read / reading if self.started and read > 0 else None,
            generated_tokens=self.generated,
            decode_tokens_per_second=(self.generated - 1) / writing if self.generated > 1 else None,
            time_to_first_token_s=self.first_token - self.arrived if self.first_token else None,
            queue_position=queue_position,
        )


@dataclass
class Slot:
    cached: list[int] = field(default_factory=list)
    """The tokens whose keys and values are in the cache."""
    last_slice: int = 0
    """Where the last slice of the latest prompt began."""
    request: Request | None = None


class Scheduler:
    """Runs requests on a program. `end_tokens` end an answer; `slice_tokens` is how much of a prompt one forward reads:
    small enough that running answers do not stutter and a cancelled request stops soon."""

    def __init__(self, program: ForwardProgram, end_tokens: tuple[int, ...], slice_tokens: int):
        self.program = program
        self.end_tokens = frozenset(end_tokens)
        self.slice_tokens = min(slice_tokens, program.max_tokens - (program.slots - 1))
        self.slots = [Slot() for _ in range(program.slots)]
        self.waiting: deque[Request] = deque()

    @property
    def busy(self) -> bool:
        return bool(self.waiting) or any(slot.request for slot in self.slots)

    def submit(self, request: Request) -> Step:
        """Takes a request with 1 to `context` - 1 tokens (a scoring one: 2 to `context`). The step says how many are
        ahead of it."""
        self.waiting.append(request)
        return Step(request.id, (), None, request.stats(queue_position=self._ahead(len(self.waiting) - 1)))

    def cancel(self, request_id: int) -> Step | None:
        """Ends a request now; its slot keeps what it has read. None where the request is over already."""
        for request in self.waiting:
            if request.id == request_id:
                self.waiting.remove(request)
                return Step(request_id, (), "cancelled", request.stats())
        for slot in self.slots:
            if slot.request and slot.request.id == request_id:
                request, slot.request = slot.request, None
                return Step(request_id, (), "cancelled", request.stats())
        return None

    def step(self) -> Iterator[Step]:
        """One forward for all running requests."""
        if self._admit():
            for place, request in enumerate(self.waiting):
                yield Step(request.id, (), None, request.stats(queue_position=self._ahead(place)))
        tokens, rows = self._batch()
        starts = [len(slot.cached) for slot in self.slots]
        logits = self.program.forward(tokens, starts, [row for part in rows for row in part] or [0])
        first = 0
        for slot, new, wanted in zip(self.slots, tokens, rows, strict=True):
            if slot.request:
                slot.cached += new
                slot.request.filled = len(slot.cached)
                yield self._advance(slot, slot.request, new, logits[first : first + len(wanted)])
            first += len(wanted)

    def _ahead(self, place: int) -> int:
        """How many requests must end before the one at `place` in the queue can start."""
        free = sum(slot.request is None for slot in self.slots)
        return max(0, place + 1 - free)

    def _admit(self) -> bool:
        """Gives free slots to waiting requests, first come first served; whether any was admitted."""
        admitted = False
        while self.waiting and (free := [slot for slot in self.slots if slot.request is None]):
            request = self.waiting.popleft()
            slot = max(free, key=lambda slot: common_prefix(slot.cached, request.tokens))
            request.cached = request.filled = self._reusable(slot, request)
            request.started = time.perf_counter()
            del slot.cached[request.cached :]
            slot.request = request
            admitted = True
        return admitted

    def _reusable(self, slot: Slot, request: Request) -> int:
        """How many of the slot's cached tokens serve the request."""
        if not request.reuses_cache:
            return 0
        reusable = common_prefix(slot.cached, request.tokens)
        if reusable < len(request.tokens):
            # The last token is always read, since its logits are what the answer starts from.
            return min(reusable, len(request.tokens) - 1)
        # A prompt again, say for another try. Its last slice is read as it was before: the same rows computed in other
        # company differ in their last bits, and the likeliest answer should not hang on that.
        return min(slot.last_slice, len(request.tokens) - 1)

    def _batch(self) -> tuple[list[list[int]], list[list[int]]]:
        """Each slot's new tokens, and the batch rows whose logits each wants."""
        budget, tokens, rows, offset = self.slice_tokens, list[list[int]](), list[list[int]](), 0
        for slot in self.slots:
            request = slot.request
            wanted: list[int] = []
            if request is None:
                # A slot must not be empty: a throw-away token, which the next real one overwrites.
                if len(slot.cached) == self.program.context:
                    slot.cached.pop()
                new = [0]
            elif request.params is None:
                limit = max(1, min(budget, self.program.max_rows // self.program.slots))
                new = request.tokens[request.filled : request.filled + limit]
                wanted = [offset + i for i in range(len(new))]
            else:
                new = request.tokens[request.filled : request.filled + max(1, budget)]
                if request.filled + len(new) == len(request.tokens):
                    wanted = [offset + len(new) - 1]
            if request and len(new) > 1:
                budget -= len(new)
            tokens.append(new)
            rows.append(wanted)
            offset += len(new)
        return tokens, rows

    def _advance(self, slot: Slot, request: Request, new: list[int], logits: Logits) -> Step:
        """What a forward's logits mean for one request: more of the prompt read, scores, or one token."""
        if request.params is None:
            targets = request.tokens[request.filled - len(new) + 1 : request.filled + 1]
            request.scores += log_probabilities(logits[: len(targets)], targets)
            if request.filled < len(request.tokens):
                return Step(request.id, (), None, request.stats())
            slot.request = None
            return Step(request.id, (), "length", request.stats(), tuple(request.scores))
        if not len(logits):
            return Step(request.id, (), None, request.stats())
        if not request.generated:
            slot.last_slice = request.filled - len(new)
        token = sample(logits[0], request.params, request.tokens, request.random)
        request.tokens.append(token)
        request.last_token = time.perf_counter()
        request.first_token = request.first_token or request.last_token
        finish: FinishReason | None = None
        if token in self.end_tokens:
            finish = "stop"
        elif request.generated == request.params.max_new_tokens or len(request.tokens) == self.program.context:
            finish = "length"
        if finish:
            slot.request = None
        return Step(request.id, (token,), finish, request.stats())


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many leading tokens two sequences share."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def log_probabilities(logits: Logits, targets: list[int]) -> list[float]:
    """Log-probability of each target [n] under its row of logits [n, vocabulary]."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    chosen = shifted[np.arange(len(targets)), targets]
    return list(map(float, chosen - np.log(np.exp(shifted).sum(-1))))
