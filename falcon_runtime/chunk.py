"""What a generation yields: one frozen `Chunk` a step, the same for the page, the HTTP API and the command line."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "repetition", "time", "cancelled"]
"""`stop`: the model ended its answer or wrote a stop text; `length`: `max_new_tokens` or the context's end was reached;
`repetition`: the model wrote the same words again and again; `time`: it took as long as an answer may; `cancelled`: the
iterator was closed. What goes wrong is raised."""


@dataclass(frozen=True)
class Stats:
    """The engine's own figures of one request, so far. A rate is None until there is something to measure."""

    prompt_tokens: int = 0
    """Tokens of the prompt, special tokens included."""
    cached_tokens: int = 0
    """How many of them were in the KV cache already and did not have to be read."""
    prefilled_tokens: int = 0
    """How many of them are in the KV cache now: the reading is done when this reaches `prompt_tokens`."""
    prefill_tokens_per_second: float | None = None
    """Rate at which the tokens that were not cached were read."""
    generated_tokens: int = 0
    decode_tokens_per_second: float | None = None
    """Rate of the generated tokens after the first, which comes from the prefill."""
    time_to_first_token_s: float | None = None
    """From the request's arrival in the engine, waiting included."""
    drafted_tokens: int = 0
    """Tokens that were drafted and verified in the same forward as the one before them."""
    accepted_tokens: int = 0
    """How many of them were right: so many forwards were saved."""
    draft_model: str = ""
    """The draft model's title, once it has drafted for this request."""
    drafted_by_model: int = 0
    """How many of the drafted tokens it drafted; the others were copied from earlier in the text."""
    accepted_by_model: int = 0
    """How many of these were right."""
    queue_position: int = 0
    """How many requests are ahead of this one; 0 as soon as it runs."""
    context: int = 0
    """Tokens that fit the model's context, prompt and answer together."""
    dropped_messages: int = 0
    """How many of the oldest messages were left out because the conversation no longer fits the context."""


@dataclass(frozen=True)
class TokenLogprobs:
    """How likely the model found one token: natural logarithms of its own distribution, before any sampling parameter
    changes it."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens at the same place and their log-probabilities, likeliest first: as many as were asked
    for."""


@dataclass(frozen=True)
class Chunk:
    """One step of a generation."""

    text: str
    """What is new; empty while the prompt is read, and while a character or a stop string is still incomplete."""
    token_ids: tuple[int, ...]
    """The new tokens, those whose text is held back not yet; several where drafts were accepted."""
    finish_reason: FinishReason | None
    """None until the last chunk."""
    stats: Stats
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Of each new token, where the parameters ask for them."""
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    """Of each token of the prompt but the first, where the parameters ask for them: once, when it has been read."""
