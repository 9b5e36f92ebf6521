"""The exported Llama, filled from a checkpoint, computes what transformers computes."""

from pathlib import Path

import pytest
import torch

from falcon_runtime.convert import weights
from falcon_runtime.convert.checkpoint import Checkpoint, open_checkpoint
from falcon_runtime.convert.llama import Llama
from falcon_runtime.convert.quantize import RECIPES
from falcon_runtime.errors import ConversionFailed

from .conftest import random_llama, write_gguf


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(write_gguf(tmp_path / "model.gguf", random_llama()))


def logits(model: Llama, tokens: list[int]) -> torch.Tensor:
    count = torch.tensor([len(tokens)])
    positions = torch.arange(len(tokens))
    with torch.no_grad():
        return model(torch.tensor([tokens]), positions, torch.tensor([0]), count, positions)


@pytest.mark.parametrize("block_rows", [7, 64, 4096])
def test_logits_equal_transformers(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    monkeypatch.setattr(weights, "BLOCK_ROWS", block_rows)
    model = Llama(checkpoint.config, RECIPES["fp32"], slots=1, context=64).eval()
    weights.load(model, checkpoint)
    tokens = [5, 6, 250, 0, 319, 7, 7]
    with torch.no_grad():
        expected = random_llama()(torch.tensor([tokens])).logits
    torch.testing.assert_close(logits(model, tokens), expected, atol=1e-4, rtol=0)


def test_quantized_weights_are_near(checkpoint: Checkpoint) -> None:
    model = Llama(checkpoint.config, RECIPES["int8"], slots=1, context=64).eval()
    weights.load(model, checkpoint)
    layer, expected = model.layers[1], random_llama().model.layers[1]
    stored = layer.attention.qkv.weight.float() * layer.attention.qkv.scale
    original = torch.cat([getattr(expected.self_attn, f"{part}_proj").weight for part in "qkv"])
    assert (stored - original).abs().max() <= layer.attention.qkv.scale.max()


def test_progress_goes_up_to_one(checkpoint: Checkpoint) -> None:
    shares: list[float] = []
    weights.load(Llama(checkpoint.config, RECIPES["fp32"], slots=1, context=8), checkpoint, shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.5
    assert shares[-1] == 1


def test_a_checkpoint_of_another_model_is_refused(checkpoint: Checkpoint) -> None:
    other = Llama(random_llama(intermediate_size=96).config, RECIPES["fp32"], slots=1, context=8)
    with pytest.raises(ConversionFailed) as caught:
        weights.load(other, checkpoint)
    for part in ("model.layers.0.mlp.gate_proj.weight", "[128, 64]", "[96, 64]"):
        assert part in str(caught.value)
