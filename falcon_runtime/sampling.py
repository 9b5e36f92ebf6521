"""Sampling: the parameters, and small pure functions from logits to probabilities to a token.

The order is that of transformers: repetition penalty, temperature, top_k, top_p, min_p.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import InvalidRequest

Array = NDArray[np.float32]


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
        1.0, gt=0, le=5, description="Above 1, tokens that stand in the text already become less likely."
    )
    stop: tuple[str, ...] = Field((), max_length=16, description="Texts that end the answer; they are not part of it.")
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="The same seed gives the same text for the same prompt; without one, each answer is another.",
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidRequest(_sentence(error)) from None

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_as_tuple(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

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
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = ", ".join(SamplingParams.model_fields)
            parts.append(f"there is no parameter {name}; the parameters are {known}")
        else:
            parts.append(f"{name}: {item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}")
    return "; ".join(parts)[:1000]


def apply_repetition_penalty(logits: Array, seen: list[int], penalty: float) -> Array:
    """Logits [vocabulary], those of `seen` tokens made less likely: positive ones divided by `penalty`, negative ones
    multiplied by it.

    Source: CTRL (Keskar et al., 2019), as in transformers' RepetitionPenaltyLogitsProcessor.
    """
    if penalty == 1 or not seen:
        return logits
    logits = logits.copy()
    ids = np.unique(np.asarray(seen))
    chosen = logits[ids]
    logits[ids] = np.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits


def softmax(logits: Array) -> NDArray[np.float64]:
    """Probabilities of logits [n]."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(exponentials / exponentials.sum())


def candidates(logits: Array, params: SamplingParams) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tokens [n] that may be chosen, likeliest first, and their probabilities [n], which sum to 1.

    `logits` [vocabulary] after penalties; `params.temperature` above 0.
    """
    logits = logits / np.float32(params.temperature)
    if 0 < params.top_k < len(logits):
        ids = np.argpartition(logits, -params.top_k)[-params.top_k :]
    else:
        ids = np.arange(len(logits))
    # Stable, so that equal logits keep one order and a seed gives one text.
    ids = ids[np.argsort(-logits[ids], kind="stable")]
    probabilities = softmax(logits[ids])
    keep = len(ids)
    if params.top_p < 1:
        # Up to and including the token that reaches top_p, as in transformers' TopPLogitsWarper.
        keep = int(np.searchsorted(np.cumsum(probabilities), params.top_p)) + 1
    if params.min_p > 0:
        keep = min(keep, int((probabilities >= params.min_p * probabilities[0]).sum()))
    kept = probabilities[:keep]
    return ids[:keep], kept / kept.sum()


def sample(logits: Array, params: SamplingParams, seen: list[int], random: np.random.Generator) -> int:
    """One token. `logits` [vocabulary] are the model's, `seen` the tokens of prompt and answer so far."""
    logits = apply_repetition_penalty(logits, seen, params.repetition_penalty)
    if params.temperature == 0:
        return int(logits.argmax())
    ids, probabilities = candidates(logits, params)
    chosen = int(np.searchsorted(np.cumsum(probabilities), random.random(), side="right"))
    return int(ids[min(chosen, len(ids) - 1)])
