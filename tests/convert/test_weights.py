"""What is streamed from a checkpoint is what transformers computes with, in the place where the graph has it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from falcon_runtime.convert import weights
from falcon_runtime.convert.checkpoint import Checkpoint
from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.convert.quantize import packed
from falcon_runtime.convert.traced.llama import Llama
from falcon_runtime.errors import ConversionFailed
from falcon_runtime.models.manifest import RecipeName
from falcon_runtime.models.recipes import schemes_of

from .conftest import filled, random_llama, write_gguf


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(write_gguf(tmp_path / "model.gguf", random_llama()))


def logits(model: Llama, tokens: list[int]) -> Tensor:
    positions = torch.arange(len(tokens))
    with torch.no_grad():
        result: Tensor = model(torch.tensor([tokens]), positions, torch.zeros_like(positions), positions)
    return result


@pytest.mark.parametrize("block", [7 * 64, 64 * 64, 1 << 22])
def test_logits_equal_transformers(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(weights, "BLOCK", block)
    model = filled(checkpoint, schemes_of("fp32", checkpoint.architecture), slots=1, context=64)
    tokens = [5, 6, 250, 0, 319, 7, 7]
    with torch.no_grad():
        expected = random_llama()(torch.tensor([tokens])).logits
    torch.testing.assert_close(logits(model, tokens), expected, atol=1e-4, rtol=0)


def test_falcon3s_own_shape_equals_transformers(tmp_path: Path) -> None:
    """Head dimension 256, three query heads for a key head, 131,072 tokens, an output layer of its own."""
    llama = random_llama(
        hidden_size=768,
        intermediate_size=1024,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=256,
        vocab_size=131_072,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_theta": 1000042.0, "rope_type": "default"},
        initializer_range=0.05,
    )
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", llama, unused_tokens=True))
    model = filled(checkpoint, schemes_of("fp32", checkpoint.architecture), slots=1, context=64)
    tokens = [5, 131_071, 70_000, 0, 319, 7, 7]
    with torch.no_grad():
        expected = llama(torch.tensor([tokens])).logits
    torch.testing.assert_close(logits(model, tokens), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_quantized_weights_are_near(tmp_path: Path, recipe: RecipeName, tied: bool) -> None:
    original = random_llama(tie_word_embeddings=tied)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", original))
    schemes = schemes_of(recipe, checkpoint.architecture)
    model = filled(checkpoint, schemes, slots=1, context=64)
    tokens = torch.arange(320)[None]
    table, expected = model.embed(tokens)[0], original.model.embed_tokens.weight
    assert (table - expected).abs().max() < expected.abs().max() * (0.02 if schemes.embedding.bits == 8 else 0.15)
    layer, expected_layer = model.layers[1], original.model.layers[1]
    qkv = torch.cat([getattr(expected_layer.self_attn, f"{part}_proj").weight for part in "qkv"])
    gate_up = torch.cat([expected_layer.mlp.gate_proj.weight, expected_layer.mlp.up_proj.weight])
    with torch.no_grad():
        for linear, weight, scheme in (
            (layer.qkv, qkv, schemes.layers[1].qkv),
            (layer.out, expected_layer.self_attn.o_proj.weight, schemes.layers[1].out),
            (layer.gate_up, gate_up, schemes.layers[1].gate_up),
            (layer.down, expected_layer.mlp.down_proj.weight, schemes.layers[1].down),
            (model.head, original.lm_head.weight, schemes.head),
        ):
            x = torch.randn(1, 5, weight.shape[1], generator=torch.Generator().manual_seed(0))
            found, exact = linear.added(x, torch.zeros(1, 5, len(weight))), x @ weight.T
            assert (found - exact).std() < exact.std() * (0.02 if scheme.bits == 8 else 0.1)


def test_progress_goes_up_to_all(checkpoint: Checkpoint) -> None:
    steps: list[tuple[int, int]] = []
    schemes = schemes_of("fp32", checkpoint.architecture)
    weights.stream(checkpoint, schemes, lambda *part: None, lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert {total for _, total in steps} == {checkpoint.architecture.parameters}
    assert steps[-1][0] == steps[-1][1]


def test_projections_that_do_not_come_in_tiles_are_refused(tmp_path: Path) -> None:
    """The values' would begin within the tile where the keys' end."""
    llama = random_llama(num_key_value_heads=1, head_dim=8)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", llama))
    with pytest.raises(ConversionFailed, match=r"multiple of 16 outputs, and .*layers\.0\.self_attn\.v_proj.*fp32"):
        weights.places_of(checkpoint, schemes_of("int4", checkpoint.architecture))
    schemes = schemes_of("fp32", checkpoint.architecture)
    assert weights.places_of(checkpoint, schemes).keys() == checkpoint.shapes.keys()
    tokens = [5, 6, 250]
    with torch.no_grad():
        expected = llama(torch.tensor([tokens])).logits
    found = logits(filled(checkpoint, schemes, slots=1, context=64), tokens)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("block", [7 * 64, 1 << 22])
@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_packed_weights_are_those_of_the_whole_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: RecipeName, block: int
) -> None:
    """However many rows are converted at a time, and where the last tile is not full."""
    monkeypatch.setattr(weights, "BLOCK", block)
    llama = random_llama(vocab_size=325)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", llama))
    schemes = schemes_of(recipe, checkpoint.architecture)
    model = filled(checkpoint, schemes, slots=1, context=64)
    original = llama.state_dict()
    qkv = torch.cat([original[f"model.layers.0.self_attn.{part}_proj.weight"] for part in "qkv"])
    assert torch.equal(model.head.weight, packed(original["lm_head.weight"], schemes.head))
    assert torch.equal(model.embed.weight, packed(original["model.embed_tokens.weight"], schemes.embedding))
    assert torch.equal(model.layers[0].qkv.weight, packed(qkv, schemes.layers[0].qkv))


@pytest.mark.parametrize("recipe", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("tensor", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_numbers_that_are_not_finite_are_refused(
    tmp_path: Path, recipe: RecipeName, number: float, tensor: str
) -> None:
    llama = random_llama()
    llama.get_parameter(tensor).data.flatten()[-1] = number
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", llama))
    with pytest.raises(ConversionFailed, match=f"{tensor} of model.gguf has numbers that are not finite"):
        weights.stream(checkpoint, schemes_of(recipe, checkpoint.architecture), lambda *part: None)
