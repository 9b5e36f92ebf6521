"""What a quantized program computes is what its recipe says, and close to the model it was made from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

from falcon_runtime.catalog import CATALOG, STARTER
from falcon_runtime.convert import convert
from falcon_runtime.convert.checkpoint import open_checkpoint
from falcon_runtime.convert.quantize import quantize
from falcon_runtime.engine.program import Program
from falcon_runtime.errors import ConversionFailed
from falcon_runtime.manifest import RecipeName, read_manifest
from falcon_runtime.recipes import FP32, INT4, INT4_TABLE, INT8, INT8_ROTATED, Scheme, schemes_of

from ..conftest import small_llama
from .conftest import filled, random_llama, write_gguf

TOKENS = [5, 6, 7, 8, 9, 10, 11, 200, 3, 17]


@pytest.mark.parametrize(("recipe", "least_correlation"), [("int8", 0.995), ("int4", 0.9)])
def test_program_computes_its_recipe(
    small_checkpoint: Path, tmp_path: Path, recipe: RecipeName, least_correlation: float
) -> None:
    folder = convert(str(small_checkpoint), tmp_path, recipe=recipe, slots=1)
    program = Program(folder, read_manifest(folder), threads=2)
    found = program.forward([TOKENS], [0], range(len(TOKENS)))

    checkpoint = open_checkpoint(small_checkpoint)
    model = filled(checkpoint, schemes_of(recipe, checkpoint.architecture), slots=1, context=256)
    count = len(TOKENS)
    with torch.no_grad():
        rows = torch.arange(count)
        eager = model(torch.tensor([TOKENS]), rows, torch.zeros_like(rows), rows)[0].numpy()
        original = small_llama()(torch.tensor([TOKENS])).logits[0].numpy()
    # A value on the edge between two integers may fall to either side, so a few logits differ by one such step.
    assert np.abs(found - eager).mean() < 0.005 * original.std()
    assert np.corrcoef(found.ravel(), original.ravel())[0, 1] > least_correlation


@pytest.mark.parametrize("scheme", [INT8, INT4_TABLE, Scheme(bits=8, group=32)])
def test_quantized_weights_are_within_half_a_step(scheme: Scheme) -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    parts = quantize(weight, scheme)
    integers, scale = parts["weight"], parts["scale"]
    low, high = scheme.range
    assert integers.min() >= low
    assert integers.max() <= high
    step = scale.repeat_interleave(64 // scale.shape[1], 1)
    assert scale.shape == (16, 64 // (scheme.group or 64))
    # Half a step everywhere but at the largest value, which is cut off by as much.
    assert ((integers * step - weight).abs() <= step * 0.51).all()


def test_weights_with_offsets_are_within_half_a_step() -> None:
    weight = 3 + torch.randn(16, 64, generator=torch.Generator().manual_seed(0))  # Far from zero: offsets pay.
    parts = quantize(weight, INT4)
    step = parts["scale"].repeat_interleave(32, 1)
    offset = (parts["offset.weight"] * parts["offset.scale"]).repeat_interleave(32, 1)
    found = parts["weight"] * step + offset
    # And by what bfloat16 and the 8 bits of the offsets round off.
    assert ((found - weight).abs() <= step * 0.54 + parts["offset.scale"] / 2).all()
    assert step.max() < 0.5, "as wide as the numbers spread, and not as far as they are from zero"


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1])
def test_4_bit_blocks_of_a_gguf_stay_what_they_are(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", random_llama(), kind))
    for name in ("model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight"):
        grid = checkpoint.grid(name, slice(3, 50))
        assert grid
        weight = checkpoint.tensor(name, slice(3, 50))
        parts = quantize(weight, INT4, grid)
        scale, offset = (part.repeat_interleave(32, 1) for part in grid)
        # The integers are the file's own.
        torch.testing.assert_close(parts["weight"] * scale + offset, weight, atol=1e-6, rtol=0)
        # What is stored of them differs by the rounding of scales and offsets alone.
        stored_offset = (parts["offset.weight"] * parts["offset.scale"]).repeat_interleave(32, 1)
        found = parts["weight"] * parts["scale"].repeat_interleave(32, 1) + stored_offset
        assert ((found - weight).abs() <= 8 * scale / 256 + parts["offset.scale"] / 2 + 1e-6).all()
        if kind == GGMLQuantizationType.Q4_0:
            assert (checkpoint.grid(name)[1] > 0).any(), "a block that counts downwards"  # type: ignore[index]
    assert checkpoint.grid("model.norm.weight") is None


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConversionFailed, match=r"groups of 32; one has 48.*int8"):
        INT4.groups(48)


def test_rotation_takes_what_divides_the_inputs() -> None:
    assert [INT8_ROTATED.block(inputs) for inputs in (576, 3072, 96, 20, 7)] == [64, 64, 32, 4, 1]
    assert INT8_ROTATED.blocks(96) == (3, 32)
    assert INT8.blocks(96) == (96,)


def test_layers_of_a_recipe() -> None:
    tied, own = STARTER.architecture, CATALOG["falcon3-7b-instruct"].architecture
    assert schemes_of("int8", tied).shared
    assert not schemes_of("int8", own).shared
    assert schemes_of("int4", own).embedding == INT4_TABLE
    assert schemes_of("int4", own).layers == (schemes_of("int4", own).layers[0],) * 28
    assert schemes_of("fp32", replace(own, tied=True)).head == FP32


@pytest.mark.parametrize("name", list(CATALOG))
def test_4_bits_take_little_more_than_q4_0(name: str) -> None:
    """18 bytes are 32 weights in a Q4_0 file; 210 are 256 of an output layer, 34 are 32 where that is the embedding."""
    shape = CATALOG[name].architecture
    linear = shape.layers * sum(outputs * inputs for outputs, inputs in shape.linear.values())
    table = shape.vocabulary * shape.hidden
    q4_0 = linear * 18 / 32 + table * (34 / 32 if shape.tied else 18 / 32 + 210 / 256) + 4 * shape.norms
    assert schemes_of("int4", shape).bytes(shape) <= 1.102 * q4_0
