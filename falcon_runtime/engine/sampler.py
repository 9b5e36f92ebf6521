"""The sampler of a request, which chooses its tokens.

The order is that of transformers, with the penalties of OpenAI's API where vLLM and llama.cpp have them: logit_bias,
repetition_penalty, presence_penalty and frequency_penalty, temperature, top_k, top_p, min_p. What goes through a whole
vocabulary is compiled: `kernels/sampling.py`.
"""

import copy
import ctypes
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..chunk import TokenLogprobs
from ..errors import NothingAllowed
from ..models.architecture import MAX_VOCABULARY
from ..sampling import SamplingParams
from .kernels.compiled import addresses
from .kernels.sampling_workspace import BIAS, MASK_BITS, OPTIONS, SEEN, WORKSPACE, make_room
from .kernels.workspace import Workspace

Array = NDArray[np.float32]
Mask = NDArray[np.int32]
"""Which tokens are allowed: bit i % 32 of word i // 32 is that of token i, as llguidance and xgrammar have it."""


SAMPLING = f"{__package__}.kernels.sampling:sampling"
"""What makes the compiled passes."""


class Passes:
    """The compiled passes over logits [vocabulary], and the memory that they work in."""

    def __init__(self, vocabulary: int, announce: Callable[[], None]):
        self.workspace = Workspace(WORKSPACE)
        make_room(self.workspace, vocabulary)
        self._order = self.workspace.array("order")
        functions = addresses(SAMPLING, announce=announce)
        at, integer, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double

        def function(name: str, returns: type, *takes: type) -> Callable[..., int | float]:
            # They keep the GIL, so that of several threads one at a time has the memory.
            return partial(ctypes.PYFUNCTYPE(returns, at, *takes)(functions[name]), self.workspace.address)

        self.likeliest = function("best", integer, at, at, at)
        """The likeliest token after bias and penalties, of equally likely ones the first; -1 if none is possible. Takes
        the addresses of OPTIONS, the logits, and the mask, or 0."""
        self.weigh = function("weigh", integer, at, at, at)
        """Makes the distribution that `draw` draws from; 0 if no token is possible. Takes the same."""
        self.draw = function("draw", integer, number)
        """The token with which the cumulative sum of the distribution passes a number (0 to 1, 1 excluded)."""
        self._log_total = function("log_total", number, at, integer)

    def logprobs(self, logits: Array, token: int, count: int) -> TokenLogprobs:
        """The log-probability of `token`, and those of the `count` likeliest tokens, under logits [vocabulary]."""
        logits = np.ascontiguousarray(logits, np.float32)
        log_total = self._log_total(logits.ctypes.data, count)
        likeliest = [i for i in self._order[:count].tolist() if i >= 0]
        top = tuple((i, float(logits[i]) - log_total) for i in likeliest)
        return TokenLogprobs(token, float(logits[token]) - log_total, top)


_passes: dict[int, Passes] = {}


def passes(vocabulary: int, announce: Callable[[], None] = lambda: None) -> Passes:
    """Those over so many tokens. `announce` is called before they are compiled, which takes seconds, if they are."""
    if vocabulary not in _passes:
        _passes[vocabulary] = Passes(vocabulary, announce)
    return _passes[vocabulary]


class Text:
    """The tokens that a request's penalties are about, each once, with the number of times that the answer has it, as
    SEEN: however long the text is, a token is found and counted in the same time."""

    def __init__(self, prompt: Collection[int]):
        tokens = sorted(set(prompt))
        self._places = {token: place for place, token in enumerate(tokens)}
        self.table = np.zeros(len(tokens) + 256, SEEN)
        self.table["token"][: len(tokens)] = tokens

    def __len__(self) -> int:
        return len(self._places)

    def add(self, token: int) -> None:
        """The answer has this token next."""
        place = self._places.setdefault(token, len(self))
        if place == len(self.table):
            self.table = np.concatenate([self.table, np.zeros_like(self.table)])
        self.table[place] = token, self.table["count"][place] + 1

    def copy(self) -> "Text":
        other = copy.copy(self)
        other._places, other.table = self._places.copy(), self.table.copy()
        return other


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
        penalised = params.repetition_penalty != 1 or params.presence_penalty != 0 or params.frequency_penalty != 0
        self._text = Text(set(prompt).difference(end_tokens)) if penalised else None
        self._bias = np.array(list(params.logit_bias.items()), BIAS)
        self._options = np.zeros(1, OPTIONS)
        for name in set(OPTIONS.names or ()).intersection(SamplingParams.model_fields):
            self._options[name] = min(getattr(params, name), MAX_VOCABULARY)  # top_k may be more than an int64 holds.
        self._options["bias"], self._options["biased"] = self._bias.ctypes.data, len(self._bias)

    def sample(self, logits: Array, allowed: Mask | None = None) -> Sampled:
        """The next token. `logits` [vocabulary] are the model's; they are neither kept nor changed. Log-probabilities
        are the model's own, whatever is allowed. Errors: NothingAllowed."""
        token, top = self.next(logits, allowed), self.params.logprobs
        return Sampled(token, None if top is None else passes(len(logits)).logprobs(logits, token, top))

    def next(self, logits: Array, allowed: Mask | None = None) -> int:
        """The next token alone.

        A token takes exactly one random number, or none at temperature 0: which numbers a token gets depends only on
        how many came before it. Logits that are no numbers, of a damaged model, give some token and no error.
        """
        token = self._choose(logits, allowed)
        if token < 0:
            if allowed is not None:
                raise NothingAllowed("None of the tokens that are allowed here is one that the model can give.")
            token = 0
        if self._text is not None:
            self._text.add(token)
        return token

    def fork(self) -> "Sampler":
        """One that is about to choose as this one is, with the same random numbers; this one does not notice."""
        other = copy.copy(self)
        other._random, other._options = copy.deepcopy(self._random), self._options.copy()
        other._text = self._text and self._text.copy()
        return other

    def _choose(self, logits: Array, allowed: Mask | None) -> int:
        """The next token; -1 if none is possible."""
        over, mask = passes(len(logits)), 0
        if allowed is not None:
            if allowed.dtype != np.int32 or allowed.size * MASK_BITS < len(logits):
                raise ValueError(f"A mask for {len(logits)} tokens is as many bits in int32.")
            allowed = np.ascontiguousarray(allowed)
            mask = allowed.ctypes.data
        if self._text is not None:
            self._options["text"], self._options["seen"] = self._text.table.ctypes.data, len(self._text)
        logits = np.ascontiguousarray(logits, np.float32)
        arguments = self._options.ctypes.data, logits.ctypes.data, mask
        if self.params.temperature == 0:
            return int(over.likeliest(*arguments))
        uniform = self._random.random()
        return int(over.draw(uniform)) if over.weigh(*arguments) else -1
