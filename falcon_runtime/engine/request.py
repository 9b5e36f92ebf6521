"""One request on its way through the engine."""

import time
from collections.abc import Collection, Sequence

from ..chunk import Stats, TokenLogprobs
from ..constraint import Constraint
from ..sampling import SamplingParams
from .constraints import Follower, Grammars
from .repetition import Loop
from .sampler import Sampler
from .speculation import PromptLookup, Proposer


class Request:
    """A sequence: `tokens` (prompt, then answer), of which `filled` are in a slot's KV cache."""

    def __init__(
        self, id: int, tokens: Sequence[int], params: SamplingParams | None, proposer: Proposer | None = None
    ) -> None:
        """`params` is None for a request that only scores its prompt. `proposer` drafts tokens; None: prompt lookup."""
        self.id, self.tokens, self.params = id, list(tokens), params
        self.prompt_length = len(self.tokens)
        self.sampler: Sampler | None = None
        """None until it has a slot, and for a request that only scores."""
        self.follower: Follower | None = None
        """Of its constraint, once it has a slot."""
        self.loop = Loop() if params and params.stop_on_repetition else None
        self.proposer = proposer or PromptLookup()
        self.filled = self.cached = self.drafted = self.accepted = 0
        self.draft_model = ""
        self.drafted_by_model = self.accepted_by_model = 0
        self.scores: list[TokenLogprobs] = []
        self._arrived = time.perf_counter()
        self._started = self._last_token = 0.0
        self._first_token: float | None = None
        self._first_tokens = 0

    @property
    def reuses_cache(self) -> bool:
        """A seed promises the same text again, so nothing may depend on what the cache happens to hold: rows that
        were computed in other batches differ in their last bits. Scores need the logits of the whole prompt."""
        return self.params is not None and self.params.seed is None and self.scored is None

    @property
    def scored(self) -> int | None:
        """How many alternatives to report for each of the prompt's tokens; None where the prompt is not scored."""
        return 0 if self.params is None else self.params.prompt_logprobs

    @property
    def decodes(self) -> bool:
        """Whether all of it but the last token has been prefilled, so that each forward brings tokens."""
        return self.params is not None and self.filled == len(self.tokens) - 1

    @property
    def to_prefill(self) -> int:
        return len(self.tokens) - self.filled

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    def start(self, cached: int, end_tokens: Collection[int]) -> None:
        """It has a slot now, with `cached` of its tokens. `end_tokens` are those that end an answer."""
        self.cached = self.filled = cached
        if self.params:
            self.sampler = Sampler(self.params, self.tokens, end_tokens)
        self._started = time.perf_counter()

    def follow(self, grammars: Grammars, constraint: Constraint) -> None:
        """Its answer has to be what `constraint` says."""
        self.follower = grammars.follower(constraint)

    def took(self, count: int) -> None:
        """It has got `count` tokens."""
        self._last_token = time.perf_counter()
        if self._first_token is None:
            self._first_token, self._first_tokens = self._last_token, count

    def stats(self, context: int, queue_position: int = 0) -> Stats:
        prefilled = min(self.filled, self.prompt_length) - self.cached
        seconds = (self._first_token or time.perf_counter()) - self._started
        after_first, writing = self.generated - self._first_tokens, self._last_token - (self._first_token or 0.0)
        return Stats(
            prompt_tokens=self.prompt_length,
            cached_tokens=self.cached,
            prefilled_tokens=min(self.filled, self.prompt_length),
            prefill_tokens_per_second=prefilled / seconds if self._started and prefilled > 0 else None,
            generated_tokens=self.generated,
            decode_tokens_per_second=after_first / writing if after_first > 0 and writing > 0 else None,
            time_to_first_token_s=self._first_token - self._arrived if self._first_token else None,
            drafted_tokens=self.drafted,
            accepted_tokens=self.accepted,
            draft_model=self.draft_model,
            drafted_by_model=self.drafted_by_model,
            accepted_by_model=self.accepted_by_model,
            queue_position=queue_position,
            context=context,
        )
