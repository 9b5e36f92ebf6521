"""GGUF files are read back as the Llama they were written from, or refused with a reason."""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from transformers import AutoTokenizer
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from falcon_runtime.convert.checkpoint import tensor_shapes
from falcon_runtime.convert.opening import Origin, open_checkpoint
from falcon_runtime.errors import ConversionFailed

from .conftest import byte_vocabulary, random_llama, write_gguf

STEPS = {
    GGMLQuantizationType.F32: math.inf,
    GGMLQuantizationType.F16: 1024,
    GGMLQuantizationType.BF16: 128,
    GGMLQuantizationType.Q8_0: 127,
    GGMLQuantizationType.Q4_0: 8,
    GGMLQuantizationType.Q4_1: 15,
}
"""How many quantization steps there are at least up to the largest value of a block."""


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("tied", [False, True])
def test_every_tensor_is_read_back(tmp_path: Path, kind: GGMLQuantizationType, tied: bool) -> None:
    model = random_llama(tie_word_embeddings=tied)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", model, kind))
    weights = model.state_dict()
    assert set(tensor_shapes(checkpoint.architecture)) == set(weights)
    for name, expected in weights.items():
        found = checkpoint.tensor(name)
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        step = expected.view(-1, 32).abs().amax(1, keepdim=True) / (STEPS[kind] if expected.ndim == 2 else math.inf)
        assert ((found - expected).view(-1, 32).abs() <= 1.01 * step).all(), name
        assert torch.equal(checkpoint.tensor(name, slice(5, 23)), found[5:23])


@pytest.mark.parametrize(
    ("kind", "in_4_bits", "has_offsets"),
    [
        (GGMLQuantizationType.F16, False, False),
        (GGMLQuantizationType.Q8_0, False, False),
        (GGMLQuantizationType.Q4_0, True, False),
        (GGMLQuantizationType.Q4_1, True, True),
        (GGMLQuantizationType.Q4_K, False, True),
    ],
)
def test_blocks_of_4_bits_are_told(
    tmp_path: Path, kind: GGMLQuantizationType, in_4_bits: bool, has_offsets: bool
) -> None:
    """By those of the layers: whatever the embedding is."""
    numbers, size = gguf.GGML_QUANT_SIZES[kind]

    def edit(writer: GGUFWriter) -> None:
        del writer.tensors[0]["blk.1.ffn_down.weight"]
        blocks = np.zeros((64, 256 // numbers * size), np.uint8)
        writer.add_tensor("blk.1.ffn_down.weight", blocks, raw_dtype=kind)

    llama = random_llama(intermediate_size=256)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", llama, edit=edit))
    assert (checkpoint.in_4_bits, checkpoint.has_offsets) == (in_4_bits, has_offsets)


@pytest.mark.parametrize("tied", [False, True])
def test_the_stream_is_in_the_order_of_the_file(tmp_path: Path, tied: bool) -> None:
    model = random_llama(tie_word_embeddings=tied)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", model))
    assert list(checkpoint.stream()) == [name for name in model.state_dict() if not (tied and name == "lm_head.weight")]


def test_the_configuration_is_the_models(tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 1000042.0}
    changes: dict[str, Any] = {"head_dim": 32, "rms_norm_eps": 1e-5, "rope_parameters": rope}
    expected = random_llama(**changes).config
    config = open_checkpoint(write_gguf(tmp_path / "model.gguf", random_llama(**changes))).config
    for name in (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim"),
        *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "rope_parameters"),
    ):
        assert getattr(config, name) == getattr(expected, name), name


def test_linear_rope_scaling(tmp_path: Path) -> None:
    def edit(writer: GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    config = open_checkpoint(write_gguf(tmp_path / "model.gguf", random_llama(), edit=edit)).config
    assert config.rope_parameters == {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}


def test_rope_factors_give_llama3_scaling(tmp_path: Path) -> None:
    low, high, factor, trained, theta, head_dim = 1.0, 4.0, 8.0, 64, 1e4, 16
    rope = {
        "rope_type": "llama3",
        "rope_theta": theta,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "factor": factor,
        "original_max_position_embeddings": trained,
    }
    model = random_llama(rope_parameters=rope)
    wavelengths = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    blend = np.clip((trained / wavelengths - low) / (high - low), 0, 1)
    factors = (1 / ((1 - blend) / factor + blend)).astype(np.float32)
    assert 1 < len(set(factors)) < len(factors)  # Scaled, blended and left alone.
    path = write_gguf(tmp_path / "model.gguf", model, edit=lambda w: w.add_tensor("rope_freqs.weight", factors))
    position = torch.arange(256)[None]
    expected = LlamaRotaryEmbedding(model.config)(torch.zeros(1), position)
    found = LlamaRotaryEmbedding(open_checkpoint(path).config)(torch.zeros(1), position)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_source_hash_end_tokens_and_tokenizer(tmp_path: Path) -> None:
    def edit(writer: GGUFWriter) -> None:
        writer.add_eot_token_id(258)
        writer.add_eom_token_id(259)

    path = write_gguf(tmp_path / "small.gguf", random_llama(), edit=edit)
    checkpoint = open_checkpoint(path)
    assert checkpoint.source == "small.gguf"
    assert Origin("small").sha256(checkpoint.files) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.end_tokens() == [257, 258, 259]
    checkpoint.save_tokenizer(tmp_path / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert len(tokenizer) == 260
    assert tokenizer.eos_token_id == 257


@pytest.mark.parametrize(("eos", "added"), [("<|end_of_text|>", "<|eot_id|>"), ("</s>", "<|im_end|>")])
def test_what_families_end_turns_with_ends(tmp_path: Path, eos: str, added: str) -> None:
    """Where the metadata names another end, and only if it is a control token."""
    tokens = [*byte_vocabulary(), "ab", eos, "<|im_start|>", added, "<|endoftext|>"]

    def edit(writer: GGUFWriter) -> None:
        writer.add_token_list(tokens)
        writer.add_token_types([1] * 257 + [3, 3, 3, 1])
        writer.add_eos_token_id(257)

    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", random_llama(), edit=edit))
    assert checkpoint.end_tokens() == [257, 259]


def test_an_end_token_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", random_llama(), edit=lambda writer: writer.add_eot_token_id(9999))
    with pytest.raises(ConversionFailed, match="The tokenizer"):
        open_checkpoint(path).end_tokens()


def refused(path: Path) -> str:
    with pytest.raises(ConversionFailed) as caught:
        open_checkpoint(path)
    return str(caught.value)


def a_bias(writer: GGUFWriter) -> None:
    writer.add_tensor("blk.0.attn_q.bias", np.zeros(64, np.float32))


def integers(writer: GGUFWriter) -> None:
    del writer.tensors[0]["output_norm.weight"]
    writer.add_tensor("output_norm.weight", np.zeros(64, np.int32))


def another_shape(writer: GGUFWriter) -> None:
    del writer.tensors[0]["blk.1.ffn_up.weight"]
    writer.add_tensor("blk.1.ffn_up.weight", np.zeros((128, 32), np.float32))


def yarn(writer: GGUFWriter) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)


@pytest.mark.parametrize(
    ("edit", "reasons"),
    [
        (lambda w: w.add_string("general.architecture", "qwen2"), ["qwen2", "llama"]),
        (a_bias, ["blk.0.attn_q.bias"]),
        (integers, ["I32", "Q8_0"]),
        (another_shape, ["model.layers.1.mlp.up_proj.weight", "[128, 32]", "[128, 64]"]),
        (yarn, ["yarn"]),
        (lambda w: w.add_rope_dimension_count(8), ["part of each head"]),
        (lambda w: w.add_uint16("split.count", 3), ["3 parts", "llama-gguf-split"]),
        (lambda w: w.add_head_count_kv([2, 1]), ["llama.attention.head_count_kv"]),
        (lambda w: w.add_head_count(7), ["configuration"]),
        (lambda w: w.add_head_count(0), ["num_attention_heads is 0"]),
        (lambda w: w.add_block_count(4_000_000_000), ["num_hidden_layers is 4000000000"]),
        (lambda w: w.add_rope_freq_base(float("nan")), ["rope_theta is nan"]),
        (lambda w: w.add_string("llama.attention.key_length", "16"), ["head_dim is '16'"]),
    ],
)
def test_what_cannot_be_converted_is_refused(tmp_path: Path, edit: Callable[[Any], None], reasons: list[str]) -> None:
    message = refused(write_gguf(tmp_path / "model.gguf", random_llama(), edit=edit))
    for reason in ["model.gguf", *reasons]:
        assert reason in message


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", random_llama(), leave_out="blk.1.attn_v.weight")
    assert "model.layers.1.self_attn.v_proj.weight" in refused(path)
    path = write_gguf(tmp_path / "model.gguf", random_llama(), leave_out="token_embd.weight")
    assert "model.embed_tokens.weight" in refused(path)


def test_big_endian_files_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", random_llama(), endianess=gguf.GGUFEndian.BIG)
    assert "big-endian" in refused(path)


def test_a_file_of_another_format_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    for content in (b"", b"GG", b"PK\3\4 something else"):
        path.write_bytes(content)
        assert "not a GGUF file" in refused(path)
    assert "no checkpoint" in refused(tmp_path / "nowhere.gguf")


@pytest.mark.parametrize("share", [0.00001, 0.001, 0.02, 0.2, 0.9, 0.99999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = write_gguf(tmp_path / "model.gguf", random_llama())
    content = path.read_bytes()
    path.write_bytes(content[: max(4, int(len(content) * share))])
    assert "truncated" in refused(path)


def test_an_unknown_quantization_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", random_llama())
    name = b"blk.0.attn_q.weight"
    content = bytearray(path.read_bytes())
    kind = content.index(name) + len(name) + 4 + 2 * 8  # After the number of dimensions and the two dimensions.
    content[kind : kind + 4] = (999).to_bytes(4, "little")
    path.write_bytes(content)
    assert "type that is not known" in refused(path)
