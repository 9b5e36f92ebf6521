"""RoPE is transformers' own in every kind that a Llama can have, and a sentence in any other, before any work."""

from contextlib import suppress
from typing import Any

import pytest
import torch
import transformers
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from falcon_runtime.convert.llama_config import LlamaConfig, make_config, trained_context
from falcon_runtime.errors import ConversionFailed

SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
LONG = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "original_max_position_embeddings": 64}


def configured(**settings: Any) -> LlamaConfig:
    return make_config("Small", SHAPE | {"max_position_embeddings": 256} | settings)


@pytest.mark.parametrize("theta", [1e4, 500000])
@pytest.mark.parametrize(
    "scaling",
    [
        None,
        {},
        {"type": "default"},
        {"type": "linear", "factor": 2.0},
        {"rope_type": "dynamic", "factor": 4},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "finetuned": True},
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16, "attention_factor": 0.5, "truncate": False},
        {"rope_type": "llama3", **LLAMA3},
        {"rope_type": "longrope", **LONG, "long_factor": [1.0] * 8},
        {"rope_type": "longrope", **LONG, "factor": 4.0},
    ],
)
def test_rope_is_that_of_transformers(scaling: dict[str, Any] | None, theta: float) -> None:
    config = configured(rope_scaling=scaling, rope_theta=theta)
    given = {**scaling} if scaling else None
    expected = transformers.LlamaConfig(**SHAPE, max_position_embeddings=256, rope_scaling=given, rope_theta=theta)
    context = trained_context(config)
    cos, sin = LlamaRotaryEmbedding(expected)(torch.zeros(1), torch.arange(context)[None])
    tables = config.rope_tables(context)
    assert torch.equal(tables[0], cos[0])
    assert torch.equal(tables[1], sin[0] * torch.tensor([-1.0] * 8 + [1.0] * 8))


@pytest.mark.parametrize("name", ["factor", "attention_factor", "beta_fast", "beta_slow"])
@pytest.mark.parametrize("number", [5e-324, 1, 10**20, 9e29])
def test_a_number_of_any_size_gives_tables_or_a_sentence(name: str, number: float) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, name: number}
    with suppress(ConversionFailed):
        cos, sin = configured(rope_scaling=scaling, rope_theta=number).rope_tables(8)
        assert cos.shape == sin.shape == (8, 16)


def test_the_original_context_may_stand_beside_the_scaling() -> None:
    scaling, original = {"rope_type": "yarn", "factor": 4.0}, {"original_max_position_embeddings": 64}
    beside, within = configured(rope_scaling=scaling, **original), configured(rope_scaling=scaling | original)
    assert beside == within != configured(rope_scaling=scaling)


def test_a_context_is_as_long_as_rope_stays_the_same() -> None:
    assert trained_context(configured()) == 256
    assert trained_context(configured(rope_scaling={"type": "dynamic", "factor": 2.0})) == 256
    assert trained_context(configured(rope_scaling={"rope_type": "longrope", **LONG})) == 64
    assert trained_context(configured(rope_scaling={"rope_type": "longrope", **LONG, "long_factor": [1.0] * 8})) == 256


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rope_theta": "10000.0"}, "rope_theta is '10000.0'"),
        ({"rope_theta": -1}, "rope_theta is -1"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": True}}, "rope_theta is True"),
        ({"rope_scaling": {"type": "ntk", "factor": 2.0}}, "type ntk.* there are default, linear, dynamic, yarn"),
        ({"rope_scaling": {"type": "su", **LONG}}, "type su"),
        ({"rope_scaling": {"type": ["linear"]}}, r"type \['linear'\]"),
        ({"rope_scaling": "linear"}, "no object: 'linear'"),
        ({"rope_scaling": {"type": "linear"}}, "does not say factor"),
        ({"rope_scaling": {"type": "yarn", "factor": None}}, "does not say factor"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, "factor is '2'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 0}}, "factor is 0"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "does not say high_freq_factor, low_freq_factor"),
        ({"rope_scaling": {"rope_type": "longrope", **LONG, "short_factor": 1.0}}, "short_factor that is no list"),
        ({"rope_scaling": {"rope_type": "longrope", **LONG, "short_factor": [1.0] * 5}}, "Small"),
        ({"rope_scaling": {"rope_type": "longrope", **LONG, "long_factor": [1.0] * 5}}, "long_factor"),
        ({"rope_scaling": {"rope_type": "longrope", **LONG, "long_factor": [None] * 8}}, "long_factor is None"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8.5}}, "is 8.5"),
        ({"partial_rotary_factor": 0.5}, "only a part of each head"),
    ],
)
def test_other_rope_is_a_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConversionFailed, match=words) as caught:
        configured(**settings)
    assert "Small" in str(caught.value)
