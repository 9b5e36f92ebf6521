"""The configuration of a Llama, checked before any work: transformers takes much without a word that fails later."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RotaryEmbeddingConfigMixin

from ..errors import ConversionFailed
from ..models.architecture import (
    MAX_CONTEXT,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_LAYERS,
    MAX_VOCABULARY,
    MAX_WIDTH,
)

REQUIRED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
OPTIONAL = ("num_key_value_heads", "head_dim", "max_position_embeddings", "original_max_position_embeddings")
MOST = {
    "hidden_size": MAX_WIDTH,
    "intermediate_size": MAX_WIDTH,
    "num_hidden_layers": MAX_LAYERS,
    "num_attention_heads": MAX_HEADS,
    "num_key_value_heads": MAX_HEADS,
    "head_dim": MAX_HEAD_DIM,
    "vocab_size": MAX_VOCABULARY,
    "max_position_embeddings": MAX_CONTEXT,
}
"""What `Architecture` may have at most."""

POSITIONS = 2048
"""How many a Llama has that does not say it."""
ORIGINAL = "original_max_position_embeddings"
ROPE: dict[str, tuple[set[str], set[str]]] = {
    "default": (set(), set()),
    "linear": ({"factor"}, set()),
    "dynamic": ({"factor"}, set()),
    "yarn": ({"factor"}, {ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"}),
    "longrope": ({"short_factor", "long_factor"}, {ORIGINAL, "factor", "attention_factor"}),
    "llama3": ({"factor", "low_freq_factor", "high_freq_factor"}, {ORIGINAL}),
}
"""The kinds of RoPE that a Llama has in transformers, with the parameters that each needs and that it may have."""


@dataclass
class LlamaConfig(RotaryEmbeddingConfigMixin):
    """What there is to know of a Llama, called as in transformers' LlamaConfig and with its defaults. To import that
    one takes seconds: a process that converts a small model would spend a third of its time on it."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rope_parameters: dict[str, Any]
    vocab_size: int = 32000
    max_position_embeddings: int = POSITIONS
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False

    def rope_frequencies(self) -> tuple[Tensor, float]:
        """By how much each pair of elements of a head is turned from one position to the next, in radians
        [head_dim / 2], and what sines and cosines are multiplied by.

        Scaled ones are transformers' own, so that every kind it knows is right here too. The others:
        https://arxiv.org/abs/2104.09864, section 3.3.
        """
        kind = self.rope_parameters["rope_type"]
        if kind != "default":
            frequencies, scale = ROPE_INIT_FUNCTIONS[kind](self)
            return frequencies, scale
        return 1 / self.rope_parameters["rope_theta"] ** (torch.arange(0, self.head_dim, 2) / self.head_dim), 1.0

    def rope_tables(self, context: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines [context, head_dim] for positions from 0; the sign of `rotate_half` is in the sines."""
        frequencies, scale = self.rope_frequencies()
        angles = torch.arange(context)[:, None] * frequencies
        cos, sin = angles.cos() * scale, angles.sin() * scale
        return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def make_config(source: str, settings: Mapping[str, Any]) -> LlamaConfig:
    """The configuration with these settings, those that are None being as if they were not there.

    Errors: ConversionFailed where they make no sense, or say what a Llama in transformers does not support.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    values: dict[str, Any] = {"tie_word_embeddings": bool(given.get("tie_word_embeddings"))}
    for name in (*REQUIRED, *OPTIONAL, "vocab_size"):
        if name in given:
            values[name] = _count(source, name, given[name])
            if values[name] > MOST.get(name, values[name]):
                raise ConversionFailed(
                    f"{_of(source)} says that {name} is {values[name]:,}, but at most {MOST[name]:,} are "
                    "possible. Download it again."
                )
        elif name in REQUIRED:
            raise ConversionFailed(f"{_of(source)} does not say {name}. Download the checkpoint again.")
    if "rms_norm_eps" in given:
        values["rms_norm_eps"] = _positive(source, "rms_norm_eps", given["rms_norm_eps"])
        if values["rms_norm_eps"] >= 1:
            raise ConversionFailed(
                f"{_of(source)} says that rms_norm_eps is {values['rms_norm_eps']}; it must be below 1."
            )
    _check_heads(source, values)
    values.setdefault("num_key_value_heads", values["num_attention_heads"])
    values.setdefault("head_dim", values["hidden_size"] // values["num_attention_heads"])
    rope, original = _rope(source, given), values.pop(ORIGINAL, None)
    if ORIGINAL in ROPE[rope["rope_type"]][1]:
        rope[ORIGINAL] = original or rope.get(ORIGINAL, values.get("max_position_embeddings", POSITIONS))
    for name in ("short_factor", "long_factor"):
        if name in rope and 2 * len(rope[name]) != values["head_dim"]:
            raise ConversionFailed(f"{_of(source)} has a {name} that is not half as long as head_dim.")
    config = LlamaConfig(**values, rope_parameters=rope)
    try:
        frequencies, _ = config.rope_frequencies()
        together = bool(torch.isfinite(frequencies).all())
    except (ArithmeticError, ValueError):
        together = False
    if not together:
        raise ConversionFailed(f"{_of(source)} has RoPE parameters that do not go together: {rope!s:.300}.")
    return config


def trained_context(config: LlamaConfig) -> int:
    """The longest context for which RoPE is the same whatever the length of the text.

    transformers' longrope takes other factors for every token once a text is longer than what the model was first
    trained with.
    """
    rope = config.rope_parameters
    if rope["rope_type"] == "longrope" and rope["short_factor"] != rope["long_factor"]:
        return min(config.max_position_embeddings, rope[ORIGINAL])
    return config.max_position_embeddings


def _check_heads(source: str, values: Mapping[str, Any]) -> None:
    hidden, heads = values["hidden_size"], values["num_attention_heads"]
    kv_heads, head_dim = values.get("num_key_value_heads", heads), values.get("head_dim")
    if heads % kv_heads:
        raise ConversionFailed(
            f"{_of(source)} has {heads} heads and {kv_heads} for keys and values, which must divide them."
        )
    if head_dim is None and hidden % heads:
        raise ConversionFailed(
            f"{_of(source)} has a hidden_size of {hidden}, which {heads} heads cannot share, and no head_dim."
        )
    head_dim = head_dim or hidden // heads
    if head_dim % 2 or not 0 < head_dim <= MAX_HEAD_DIM:
        raise ConversionFailed(
            f"{_of(source)} has a head_dim of {head_dim}; RoPE needs an even one, and {MAX_HEAD_DIM:,} is the most."
        )


def _rope(source: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers calls `rope_parameters`, of which `rope_scaling` is the older name."""
    given = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    if not isinstance(given, dict):
        raise ConversionFailed(f"{_of(source)} has RoPE parameters that are no object: {given!r:.200}.")
    given = {name: value for name, value in given.items() if value is not None}
    kind = given.get("rope_type", given.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE:
        raise ConversionFailed(
            f"{_of(source)} has RoPE scaling of type {kind!s:.100}, which a Llama does not have in transformers; there "
            f"are {', '.join(ROPE)}."
        )
    for partial in (given.get("partial_rotary_factor"), settings.get("partial_rotary_factor")):
        if partial not in (None, 1):
            raise ConversionFailed(f"{_of(source)} rotates only a part of each head, which is not supported.")
    needed, optional = ROPE[kind]
    if missing := sorted(needed - given.keys()):
        raise ConversionFailed(f"{_of(source)} has RoPE scaling of type {kind} and does not say {', '.join(missing)}.")
    theta = given.get("rope_theta", settings.get("rope_theta", LlamaConfig.default_theta))
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": _positive(source, "rope_theta", theta)}
    for name in (needed | optional) & given.keys():
        rope[name] = _rope_value(source, name, given[name])
    if kind == "yarn" and isinstance(given.get("truncate"), bool):
        rope["truncate"] = given["truncate"]
    return rope


def _rope_value(source: str, name: str, value: Any) -> Any:
    if name in ("short_factor", "long_factor"):
        if not isinstance(value, list):
            raise ConversionFailed(f"{_of(source)} has a {name} that is no list of numbers.")
        return [_positive(source, name, number) for number in value]
    return _count(source, name, value) if name == ORIGINAL else _positive(source, name, value)


def _count(source: str, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
        raise ConversionFailed(f"{_of(source)} says that {name} is {value!r:.100}; it must be a whole number above 0.")
    return value


def _positive(source: str, name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e30:
        raise ConversionFailed(f"{_of(source)} says that {name} is {value!r:.100}; it must be a number above 0.")
    return float(value)  # torch has no integers as large as JSON's.


def _of(source: str) -> str:
    return f"The configuration of {source}"
