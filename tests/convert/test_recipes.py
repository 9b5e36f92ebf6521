"""What a quantized program computes is what its recipe says, and close to the model it was made from."""

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from falcon_runtime.convert import convert
from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.convert.quantize import packed, unpacked
from falcon_runtime.engine.program import Program
from falcon_runtime.errors import ConversionFailed
from falcon_runtime.models.catalog import CATALOG, STARTER
from falcon_runtime.models.manifest import CacheBits, RecipeName, read_manifest
from falcon_runtime.models.recipes import FP32, INT4, INT4_OFFSET, INT6, INT8, PACKED, Scheme, schemes_of

from .conftest import filled, random_llama, write_gguf

TOKENS = [5, 6, 7, 8, 9, 10, 11, 200, 3, 17]
SCHEMES = {
    GGMLQuantizationType.Q8_0: INT8,
    GGMLQuantizationType.Q4_0: INT4,
    GGMLQuantizationType.Q4_1: INT4_OFFSET,
}
"""What blocks of a GGUF file are stored as."""


@pytest.mark.parametrize(
    ("recipe", "cache", "least_correlation"), [("int8", 16, 0.995), ("int4", 16, 0.9), ("int8", 8, 0.99)]
)
def test_program_computes_its_recipe(
    tmp_path: Path, recipe: RecipeName, cache: CacheBits, least_correlation: float
) -> None:
    # Norms that are all ones would leave 4-bit embeddings on a grid, where many inputs are halfway between integers.
    llama = random_llama()
    source = write_gguf(tmp_path / "model.gguf", llama)
    folder = convert(str(source), tmp_path, recipe=recipe, slots=1, output=tmp_path / "model", cache=cache)
    program = Program(folder, read_manifest(folder), threads=2)
    found = program.forward([TOKENS], [0], range(len(TOKENS)))

    checkpoint = open_checkpoint(source)
    model = filled(checkpoint, schemes_of(recipe, checkpoint.architecture, cache_bits=cache), slots=1, context=256)
    count = len(TOKENS)
    with torch.no_grad():
        rows = torch.arange(count)
        eager = model(torch.tensor([TOKENS]), rows, torch.zeros_like(rows), rows)[0].numpy()
        original = llama(torch.tensor([TOKENS])).logits[0].numpy()
    # A value on the edge between two integers may fall to either side, so a few logits differ by one such step.
    assert np.abs(found - eager).mean() < 0.005 * original.std()
    assert np.corrcoef(found.ravel(), original.ravel())[0, 1] > least_correlation


def random_weight(outputs: int, inputs: int) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))


def restored(weight: Tensor, scheme: Scheme) -> Tensor:
    """`weight` as it is after it was stored."""
    return unpacked(packed(weight, scheme), scheme)[: len(weight)]


def test_what_rounds_nothing_has_no_rounded_cache(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "model.gguf", random_llama())
    with pytest.raises(ConversionFailed, match="fp32 rounds nothing"):
        convert(str(source), tmp_path, recipe="fp32", cache=8)


@pytest.mark.parametrize("scheme", PACKED, ids=str)
@pytest.mark.parametrize("around", [0, 3])
def test_packed_weights_are_within_half_a_step(scheme: Scheme, around: float) -> None:
    weight = around + random_weight(48, 96)
    blocks = weight.view(48, 3, 32)
    error = (restored(weight, scheme).view_as(blocks) - blocks).abs()
    if scheme.offsets:
        step = (blocks.amax(-1, keepdim=True) - blocks.amin(-1, keepdim=True)) / 15
    else:
        step = blocks.abs().amax(-1, keepdim=True) / (127 if scheme.bits == 8 else scheme.zero)
    # Half a step, and what float16 rounds off scale and offset. Of 4 and 6 bits the best scale may be larger than that
    # of all steps; without offsets what lies behind the last integer is cut off.
    largest = {INT6: 32 / 30, INT4: 8 / 7, INT4_OFFSET: 15 / 13}.get(scheme, 1)
    assert (error <= step * (1.2 if scheme in (INT4, INT6) else 0.54 * largest)).all()
    assert (error <= step * 0.51 * largest).float().mean() > 0.95


@pytest.mark.parametrize(("low", "high"), [(0, 15), (0, 14), (1, 15), (1, 14), (2, 15)])
def test_blocks_that_do_not_use_all_steps_stay_what_they_are(low: int, high: int) -> None:
    integers = torch.randint(low, high + 1, (32, 64), generator=torch.Generator().manual_seed(0))
    integers[:, ::32], integers[:, 1::32] = low, high
    weight = integers * 0.25 - 1.5
    torch.testing.assert_close(restored(weight, INT4_OFFSET), weight, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", SCHEMES)
@pytest.mark.parametrize("size", [1, 1e-3])
def test_blocks_of_a_gguf_stay_what_they_are(tmp_path: Path, kind: GGMLQuantizationType, size: float) -> None:
    llama = random_llama()
    for weight in llama.parameters():
        weight.data *= size
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", llama, kind))
    for name in ("model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight"):
        weight = checkpoint.tensor(name)
        assert weight.unique().numel() > 100
        assert torch.equal(restored(weight, SCHEMES[kind]), weight)


def test_4_bits_without_offsets_are_nearer_than_q4_0() -> None:
    weight = random_weight(256, 512)
    q4_0 = gguf.dequantize(gguf.quantize(weight.numpy(), GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0)
    squares = [(found - weight).square().sum() for found in (restored(weight, INT4), torch.from_numpy(q4_0))]
    assert squares[0] < 0.93 * squares[1]


@pytest.mark.parametrize("scheme", PACKED, ids=str)
def test_blocks_of_one_number_stay_what_they_are(scheme: Scheme) -> None:
    weight = torch.zeros(16, 32)
    weight[1] = 0.5
    weight[2] = -0.5
    weight[3, 7] = 1.5
    weight[4, 7] = -1.5
    torch.testing.assert_close(restored(weight, scheme), weight, atol=2e-3, rtol=0)
    assert not restored(weight, scheme)[0].any()


@pytest.mark.parametrize("scheme", PACKED, ids=str)
@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 40])
def test_outputs_are_filled_up_to_whole_tiles(scheme: Scheme, outputs: int) -> None:
    weight = random_weight(48, 64)
    found = packed(weight[:outputs], scheme)
    assert found.shape == scheme.shape(outputs, 64) == ((outputs + 15) // 16, 2, scheme.block_bytes)
    assert found.numel() == scheme.bytes(outputs, 64)
    assert not unpacked(found, scheme)[outputs:].any()
    assert torch.equal(unpacked(found, scheme)[:outputs], restored(weight, scheme)[:outputs])


def test_bytes_are_those_of_a_gguf() -> None:
    for kind, scheme in SCHEMES.items():
        numbers, size = gguf.GGML_QUANT_SIZES[kind]
        assert scheme.bytes(48, 96) == 48 * 96 // numbers * size
    assert FP32.bytes(17, 20) == 17 * 20 * 4


@pytest.mark.parametrize("scheme", PACKED, ids=str)
def test_inputs_that_do_not_come_in_blocks_are_refused(scheme: Scheme) -> None:
    with pytest.raises(ConversionFailed, match=r"blocks of 32; one has 48.*--recipe fp32"):
        packed(random_weight(16, 48), scheme)


def test_layers_of_a_recipe() -> None:
    tied, own = STARTER.architecture, CATALOG["falcon3-7b-instruct"].architecture
    assert schemes_of("int8", tied).shared
    assert not schemes_of("int8", own).shared
    for recipe in ("int8", "int4", "fp32"):
        assert schemes_of(recipe, own).layers == (schemes_of(recipe, own).layers[0],) * 28
    assert (schemes_of("int4", own).embedding, schemes_of("int4", own).head) == (INT4, INT6)
    assert schemes_of("int4", tied).embedding == schemes_of("int4", tied).head == INT8
    assert schemes_of("int4", own).names == ("int4", "int6")
    assert schemes_of("int4", own, offsets=True).names == ("int4", "int4+offset", "int6")
    assert STARTER.schemes.names == ("int4+offset", "int8")
    assert schemes_of("int8", own, offsets=True) == schemes_of("int8", own)
    assert schemes_of("fp32", replace(own, tied=True)).head == FP32
    assert schemes_of("fp32", own).names == ("float32",)


@pytest.mark.parametrize("name", list(CATALOG))
def test_4_bits_take_no_more_than_q4_0(name: str) -> None:
    """18 bytes are 32 weights in a Q4_0 file; 210 are 256 of an output layer, 34 are 32 where that is the embedding."""
    shape = CATALOG[name].architecture
    linear = shape.layers * sum(outputs * inputs for outputs, inputs in shape.linear.values())
    table = shape.vocabulary * shape.hidden
    q4_0 = linear * 18 / 32 + table * (34 / 32 if shape.tied else 18 / 32 + 210 / 256) + 4 * shape.norms
    found = schemes_of("int4", shape).bytes(shape)
    # An output layer of its own has 26 bytes for 32 weights.
    assert found - q4_0 == (0 if shape.tied else table * (26 / 32 - 210 / 256)) <= 0
    assert schemes_of("int4", shape, offsets=True).bytes(shape) - found == linear * 2 / 32
