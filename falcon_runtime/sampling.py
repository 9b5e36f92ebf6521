"""Sampling: the parameters, small pure functions from logits to probabilities, and the `Sampler` of a request.

The order is that of transformers, with the penalties of OpenAI's API where vLLM and llama.cpp have them: logit_bias,
repetition_penalty, presence_penalty and frequency_penalty, temperature, top_k, top_p, min_p.

A vocabulary may have 131,072 tokens. Sorting them takes 12 ms, as long as a small model's forward, so nothing does.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .chunk import TokenLogprobs
from .errors import InvalidRequest
from .system.unicode import whole

Array = NDArray[np.float32]
Ids = NDArray[np.int64]

COLUMNS = 2048
"""Columns into which `_contenders` lays the logits out."""
SORTABLE = 4096
"""So many numbers are sorted in less time than sifting them takes."""
COLDEST = 1e-6
"""Temperatures below choose as this one does: float32 cannot divide by all of them."""


class SamplingParams(BaseModel):
    """How tokens are chosen and when to end. Each field's description is shown wherever the option is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(256, ge=1, description="The most tokens to generate.")
    temperature: float = Field(  # Low by default: small models stray at what suits large ones.
        0.2, ge=0, le=5, description="How adventurous the choice is: 0 always takes the likeliest token."
    )
    top_k: int = Field(50, ge=0, description="Choose among the k likeliest tokens only; 0 means all.")
    top_p: float = Field(
        0.9, gt=0, le=1, description="Choose among the likeliest tokens that together have this probability."
    )
    min_p: float = Field(
        0.0, ge=0, le=1, description="Leave out tokens less likely than this share of the likeliest one's probability."
    )
    repetition_penalty: float = Field(
        1.0, gt=0, le=5, description="Above 1, tokens that are already in the text become less likely."
    )
    presence_penalty: float = Field(
        0.0, ge=-2, le=2, description="Above 0, tokens that are already in the answer become less likely."
    )
    frequency_penalty: float = Field(
        0.0, ge=-2, le=2, description="Above 0, tokens become less likely each time they appear in the answer."
    )
    stop: tuple[str, ...] = Field((), max_length=16, description="Texts that end the answer; they are not part of it.")
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="The same seed gives the same text for the same prompt; without a seed, every answer is different.",
    )
    logit_bias: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=-100, le=100)]] = Field(
        {}, description="What to add to the logits of tokens, by token id: -100 bans a token, 100 forces it."
    )
    logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Report each token's log-probability, and those of this many of the likeliest tokens in its place.",
    )
    stop_on_repetition: bool = Field(True, description="End an answer that repeats the same words again and again.")
    prompt_logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Report the log-probabilities of the prompt's tokens too, and those of this many of the likeliest "
        "tokens in the place of each.",
    )

    def __init__(self, **values: Any) -> None:
        """None stands for a field's default, like leaving it out."""
        try:
            super().__init__(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            raise InvalidRequest(_sentence(error)) from None

    def over(self, defaults: "SamplingParams") -> "SamplingParams":
        """These parameters where they were given, and `defaults` for the others."""
        given = self.model_dump(exclude_unset=True)
        return SamplingParams(**defaults.model_dump() | given) if given else defaults

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_as_tuple(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = (value,)
        if isinstance(value, list | tuple):
            return tuple(whole(text) if isinstance(text, str) else text for text in value)
        return value

    @field_validator("stop")
    @classmethod
    def _stop_not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("a stop text must not be empty")
        return value


def _sentence(error: ValidationError) -> str:
    """A pydantic error as a sentence: which parameter, what is wrong, and what was given."""
    parts = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"] if part != "[key]")
        if item["type"] == "extra_forbidden":
            known = ", ".join(SamplingParams.model_fields)
            parts.append(f"there is no parameter {name}; the parameters are {known}")
        else:
            parts.append(f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}")
    return whole("; ".join(parts))[:1000]


def apply_logit_bias(logits: Array, bias: Mapping[int, float]) -> Array:
    """Logits [vocabulary] with each token's bias added. Tokens that the vocabulary does not have are passed over.

    Source: OpenAI's API reference, logit_bias.
    """
    known = {token: value for token, value in bias.items() if token < len(logits)}
    logits = logits.copy()
    logits[list(known)] += np.fromiter(known.values(), np.float32)
    return logits


def apply_repetition_penalty(logits: Array, seen: Ids, penalty: float) -> Array:
    """Logits [vocabulary], those of the tokens `seen` [n] (each once) made less likely: positive ones divided by
    `penalty`, others multiplied by it.

    Source: CTRL (Keskar et al., 2019), as in transformers' RepetitionPenaltyLogitsProcessor.
    """
    logits = logits.copy()
    chosen = logits[seen]
    logits[seen] = np.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits


def apply_count_penalties(logits: Array, counts: NDArray[np.int32], presence: float, frequency: float) -> Array:
    """Logits [vocabulary] less `presence` for each token that the answer has, and `frequency` for each time that it has
    it; `counts` [vocabulary] are these times.

    Source: OpenAI's API reference, as in vLLM's apply_penalties.
    """
    logits = logits.copy()
    ids = np.flatnonzero(counts > 0)
    logits[ids] -= (presence + frequency * counts[ids]).astype(np.float32)
    return logits


def candidates(logits: Array, params: SamplingParams) -> tuple[Ids, NDArray[np.float64]]:
    """The final distribution of a step: the tokens [n] that may be chosen, in order of their ids, and their
    probabilities [n], which sum to 1.

    `logits` [vocabulary] after bias and penalties; `params.temperature` above 0. Of equally likely tokens, those with
    the lowest ids are kept. Logits that are no numbers, of a damaged model, give some tokens and no error.
    """
    if 0 < params.top_k < len(logits):  # Before the temperature, which does not change the order.
        ones = np.broadcast_to(np.float32(1), logits.shape)
        ids = _leading(logits, ones, params.top_k, _contenders(logits, params.top_k))
        kept, probabilities = _after_top_k(logits[ids], params)
        return ids[kept], probabilities
    return _after_top_k(logits, params)


def _after_top_k(logits: Array, params: SamplingParams) -> tuple[Ids, NDArray[np.float64]]:
    """`candidates` of logits [n] but for top_k: their indices and probabilities."""
    logits = (logits - logits.max()) / np.float32(max(params.temperature, COLDEST))
    weights = np.exp(logits)  # Relative to the likeliest token's, so that min_p is a bound on them.
    bound = max(params.min_p, float(np.finfo(np.float32).tiny))
    if params.top_p < 1:
        total = float(weights.sum(dtype=np.float64))
        # What weighs less than the mean of what may be left out can be left out all together.
        bound = max(bound, (1 - params.top_p) * total / len(weights))
        kept = _leading(logits, weights, params.top_p * total, ~(weights < bound))
    else:
        kept = np.flatnonzero(~(weights < bound))
    probabilities = weights[kept].astype(np.float64)
    return kept, probabilities / probabilities.sum()


def choose(probabilities: NDArray[np.float64], uniform: float) -> int:
    """The index at which the cumulative sum of `probabilities` [n] passes `uniform` (0 to 1, 1 excluded)."""
    # A cumulative sum over a whole vocabulary is slow: first over blocks, then within the one that matters.
    starts = np.arange(0, len(probabilities), 512)
    sums = np.cumsum(np.add.reduceat(probabilities, starts))
    block = min(int(np.searchsorted(sums, uniform, side="right")), len(starts) - 1)
    start, rest = int(starts[block]), uniform - (sums[block - 1] if block else 0.0)
    within = np.cumsum(probabilities[start : start + 512])
    return start + min(int(np.searchsorted(within, rest, side="right")), len(within) - 1)


def token_logprobs(logits: Array, token: int, count: int) -> TokenLogprobs:
    """The log-probability of `token`, and those of the `count` likeliest tokens, under logits [vocabulary]."""
    highest = logits.max()
    log_total = float(highest) + float(np.log(np.exp(logits - highest).sum(dtype=np.float64)))
    ids = np.flatnonzero(_contenders(logits, max(count, 1)))
    ids = ids[_descending(logits[ids])[:count]]
    top = tuple((int(i), float(logits[i]) - log_total) for i in ids)
    return TokenLogprobs(token, float(logits[token]) - log_total, top)


def _descending(numbers: Array) -> Ids:
    """Indices that sort numbers [n] from the largest down; equal ones stay in order, so that a seed gives one text."""
    return np.argsort(-numbers, kind="stable")


def _contenders(logits: Array, count: int) -> NDArray[np.bool_]:
    """Which of logits [n] may be among the `count` largest: all that are, and few more if `count` is small."""
    rows = len(logits) // COLUMNS
    if rows < 2 or count > COLUMNS // 2:
        return np.ones(len(logits), np.bool_)
    # The maxima of `count` columns, so at least as many logits, reach the count-th largest of the maxima.
    maxima = logits[: rows * COLUMNS].reshape(rows, COLUMNS).max(0)
    bound = np.partition(maxima, -count)[-count]
    return np.asarray(~(logits < bound))


def _leading(logits: Array, weights: Array, amount: float, among: NDArray[np.bool_]) -> Ids:
    """Indices, in order, of the largest of logits [n]: so many of them that their `weights` [n] together reach
    `amount`, and no more. They are taken from `among` [n], which holds all above some bound; of equal logits, the first
    ones are taken. As in transformers' TopPLogitsWarper, the one that reaches the amount is in."""
    sure: NDArray[np.bool_] | None = None
    if np.count_nonzero(among) > SORTABLE:
        # The upper half of a float32's bits, a bfloat16, is ordered as the numbers are if these are not negative. A
        # histogram over it tells in which bin the amount is reached: what is before it is in, and it must be sorted.
        bins = (np.abs(logits.max() - logits).view(np.uint32) >> 16).astype(np.int64)  # Of 0 - 0 the sign may be set.
        reached = np.cumsum(np.bincount(bins, weights))
        last = int(np.searchsorted(reached, amount))
        sure, among = (bins < last) & among, (bins == last) & among
        amount -= float(reached[last - 1]) if last else 0.0
    indices = np.flatnonzero(among)
    order = indices[_descending(logits[indices])]
    chosen = order[: int(np.searchsorted(np.cumsum(weights[order], dtype=np.float64), amount)) + 1]
    if sure is None:
        return np.sort(chosen)
    sure[chosen] = True
    return np.flatnonzero(sure)


@dataclass(frozen=True)
class Sampled:
    """One token that was chosen."""

    token: int
    logprobs: TokenLogprobs | None
    """None unless the parameters ask for them."""


class Sampler:
    """Chooses the tokens of one request: it owns the random generator and knows which tokens the text has.

    `end_tokens` are exempt from penalties: they say that the answer is complete, which is no repetition of earlier
    turns that they ended.
    """

    def __init__(self, params: SamplingParams, prompt: Sequence[int], end_tokens: Collection[int] = ()):
        self.params = params
        self._random = np.random.default_rng(params.seed)
        self._prompt = np.asarray(prompt, np.int64)
        self._end_tokens = np.asarray(list(end_tokens), np.int64)
        # As long as the vocabulary, which the first logits tell: looking up what they hold takes the same time after
        # any number of tokens.
        self._seen = np.zeros(0, np.bool_)
        self._counts = np.zeros(0, np.int32)

    def sample(self, logits: Array) -> Sampled:
        """The next token. `logits` [vocabulary] are the model's; they are neither kept nor changed."""
        token, top = self.next(logits), self.params.logprobs
        return Sampled(token, None if top is None else token_logprobs(logits, token, top))

    def next(self, logits: Array) -> int:
        """The next token alone.

        A token takes exactly one random number, or none at temperature 0: which numbers a token gets depends only on
        how many came before it.
        """
        if not len(self._counts):
            self._seen, self._counts = np.zeros(len(logits), np.bool_), np.zeros(len(logits), np.int32)
            self._seen[self._prompt] = True
            self._seen[self._end_tokens] = False
        adjusted = self._adjusted(logits)
        if self.params.temperature == 0:
            token = int(adjusted.argmax())
        else:
            ids, probabilities = candidates(adjusted, self.params)
            token = int(ids[choose(probabilities, self._random.random())])
        self._seen[token] = True
        self._counts[token] += 1
        return token

    def fork(self) -> "Sampler":
        """One that is about to choose as this one is, with the same random numbers; this one does not notice."""
        other = copy.copy(self)
        other._random = copy.deepcopy(self._random)
        other._seen, other._counts = self._seen.copy(), self._counts.copy()
        return other

    def _adjusted(self, logits: Array) -> Array:
        """Logits [vocabulary] with bias and penalties."""
        params = self.params
        if params.logit_bias:
            logits = apply_logit_bias(logits, params.logit_bias)
        if params.repetition_penalty != 1:
            logits = apply_repetition_penalty(logits, np.flatnonzero(self._seen), params.repetition_penalty)
        if params.presence_penalty or params.frequency_penalty:
            logits = apply_count_penalties(logits, self._counts, params.presence_penalty, params.frequency_penalty)
        return logits
