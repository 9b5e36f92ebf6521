"""The kernels of packed weights: exact where they compute in integers, and the same for a row whoever else is there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from numba import cfunc, types
from numpy.typing import NDArray

from falcon_runtime.convert import convert
from falcon_runtime.convert.quantize import packed, unpacked
from falcon_runtime.engine.kernels.linear_workspace import FACTORS
from falcon_runtime.engine.kernels.rounding import rounding, top_of
from falcon_runtime.engine.kernels.tile import make_tile
from falcon_runtime.engine.program import Program
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.models.recipes import BLOCK, INT4, PACKED, SHIFTS, TILE, Scheme
from falcon_runtime.system.instruction_sets import InstructionSet, available

from ..convert.conftest import random_llama, write_gguf

FACTOR = np.dtype([("power", np.int32), ("sum", np.int32)])
"""What stands beside a block of inputs: how many powers of two its scale has, where a float has its exponent; with
offsets, the sum is a float32."""
WAYS = available()
BEST = WAYS[0]


@dataclass
class Inputs:
    """Of rows whose blocks are put in groups: integers [rows, width, 32], the powers of two [rows, width] and scales
    [rows, groups] that they are multiplied with, and the block that each group ends before."""

    numbers: NDArray[np.int8]
    powers: NDArray[np.int32]
    scales: NDArray[np.float32]
    ends: list[int]

    def __getitem__(self, rows: slice) -> "Inputs":
        return Inputs(self.numbers[rows], self.powers[rows], self.scales[rows], self.ends)

    def values(self) -> NDArray[np.float64]:
        """[rows, width, 32]."""
        group = np.searchsorted(self.ends, range(self.numbers.shape[1]), side="right")
        return self.numbers * (self.scales[:, group] * 2.0**self.powers)[..., None]

    def as_band(self, scheme: Scheme) -> NDArray[np.uint8]:
        """As the kernel reads them: of each block, the numbers of all rows and then their factors."""
        sums = self.numbers.sum(-1, dtype=np.int32)
        factors = np.empty(sums.shape, FACTOR)
        factors["power"] = self.powers << 23
        scaled = (sums * 2.0**self.powers).astype(np.float32).view(np.int32)
        factors["sum"] = scaled if scheme.offsets else -scheme.zero * sums
        pieces = self.numbers, factors[..., None].view(np.int8)
        width = sums.shape[1]
        return np.concatenate([piece.swapaxes(0, 1).reshape(width, -1) for piece in pieces], 1).view(np.uint8)


@cache
def compiled(rows: int, scheme: Scheme, way: InstructionSet) -> Callable[..., None]:
    llvm.initialize_native_asmparser()
    tile = make_tile(rows, scheme, way)

    @cfunc(types.void(*[types.int64] * 9))
    def call(
        weight: Any, order: Any, bounds: Any, groups: Any, inputs: Any, scales: Any, base: Any, out: Any, stride: Any
    ) -> None:
        tile(weight, order, bounds, groups, inputs, scales, base, out, stride)

    def run(*arguments: int) -> None:
        call.ctypes(*arguments)

    return run


def product(
    scheme: Scheme,
    way: InstructionSet,
    weight: NDArray[np.uint8],
    inputs: Inputs,
    order: NDArray[np.int64] | None = None,
    base: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """What the kernel makes of a tile [blocks, block_bytes] and inputs. `order` names the blocks of each group, one
    group after the other; without, they are taken as they come."""
    rows, width, _ = inputs.numbers.shape
    if order is None:
        order = np.repeat(np.arange(width), 2).reshape(width, 2)
    out = np.full((rows, 2 * TILE), np.nan, np.float32)  # Wider than what is written.
    bounds, scales = np.array([0, *inputs.ends]), np.ascontiguousarray(inputs.scales.T)
    band = inputs.as_band(scheme)
    base_at = 0 if base is None else base.ctypes.data
    weight_at, order_at, bounds_at, band_at, scales_at, out_at = (
        array.ctypes.data for array in (weight, order, bounds, band, scales, out)
    )
    run = compiled(rows, scheme, way)
    run(weight_at, order_at, bounds_at, len(inputs.ends), band_at, scales_at, base_at, out_at, out.strides[0])
    assert np.isnan(out[:, TILE:]).all()
    return out[:, :TILE]


def random_inputs(rows: int, width: int, together: int = 8) -> Inputs:
    """So many blocks to a group."""
    random = np.random.default_rng(rows + width)
    ends = [*range(together, width, together), width]
    return Inputs(
        random.integers(-127, 128, (rows, width, BLOCK)).astype(np.int8),
        random.integers(0, SHIFTS + 1, (rows, width)).astype(np.int32),
        random.uniform(0.001, 0.1, (rows, len(ends))).astype(np.float32),
        ends,
    )


def random_tile(blocks: int, scheme: Scheme) -> torch.Tensor:
    weight = torch.randn(TILE, blocks * BLOCK, generator=torch.Generator().manual_seed(blocks))
    return packed(weight + 0.5, scheme)


@pytest.mark.parametrize("scheme", PACKED, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 8])
def test_a_tile_is_multiplied(scheme: Scheme, rows: int) -> None:
    for blocks in (1, 2, 5, 18, 96):
        tile = random_tile(blocks, scheme)
        weight = unpacked(tile, scheme).numpy().astype(np.float64)
        inputs = random_inputs(rows, blocks)
        x = inputs.values().reshape(rows, -1)
        found, *others = (product(scheme, way, tile[0].numpy(), inputs) for way in WAYS)
        for other in others:
            assert np.array_equal(found, other), "what is summed in integers has one result"
        # What float32 rounds off: each block's sum, and the sum of sums after it, by at most half an ulp of all that
        # is summed, and the products of its factors by half an ulp each.
        tolerance = (blocks + 8) * np.finfo(np.float32).eps
        np.testing.assert_allclose(found, x @ weight.T, atol=tolerance * (np.abs(x) @ np.abs(weight).T).max(), rtol=0)


@pytest.mark.parametrize("scheme", PACKED, ids=str)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_integers_do_not_overflow(scheme: Scheme, way: InstructionSet, sign: int) -> None:
    tile = packed(torch.ones(TILE, 2 * BLOCK), scheme)
    head = 2 * TILE * (1 + scheme.offsets)
    floats, numbers = tile[..., :head].view(torch.float16), tile[..., head:]
    floats[:], numbers[:] = 1, 255
    weight = unpacked(tile, scheme)[:, 0].numpy()
    numbers, powers = np.full((2, 2, BLOCK), sign * 127, np.int8), np.full((2, 2), SHIFTS, np.int32)
    inputs = Inputs(numbers, powers, np.full((2, 1), 2.0**-SHIFTS, np.float32), [2])
    found = product(scheme, way, tile[0].numpy(), inputs)
    assert np.array_equal(found, np.full((2, TILE), 2 * BLOCK * 127 * sign) * weight)


@pytest.mark.parametrize("scheme", PACKED, ids=str)
@pytest.mark.parametrize("rows", [1, 8])
def test_blocks_are_multiplied_with_what_the_order_says(scheme: Scheme, rows: int) -> None:
    """Some twice, one not at all, in a group of three and one of its own, and on top of what is known already."""
    tile = random_tile(4, scheme)
    weight = unpacked(tile, scheme).numpy().reshape(TILE, 4, BLOCK)
    order, ends = np.array([[2, 0], [0, 2], [3, 1], [2, 4]], np.int64), [3, 4]
    inputs = replace(random_inputs(rows, 5, together=3), powers=np.zeros((rows, 5), np.int32))
    values = inputs.values()
    base = np.random.default_rng(0).normal(size=(rows, 2 * TILE)).astype(np.float32)
    expected = base[:, :TILE].astype(np.float64)
    for block, place in order:
        expected += values[:, place] @ weight[:, block].T
    found = product(scheme, BEST, tile[0].numpy(), replace(inputs, ends=ends), order, base)
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("scheme", PACKED, ids=str)
def test_a_row_does_not_depend_on_how_many_there_are(scheme: Scheme) -> None:
    tile = random_tile(18, scheme)
    inputs = random_inputs(8, 18)
    together = product(scheme, BEST, tile[0].numpy(), inputs)
    for rows in (1, 2, 4):
        for first in range(0, 8, rows):
            some = slice(first, first + rows)
            alone = product(scheme, BEST, tile[0].numpy(), inputs[some])
            assert np.array_equal(alone, together[some])


def test_an_empty_order_gives_zeros() -> None:
    assert not product(INT4, BEST, random_tile(1, INT4)[0].numpy(), replace(random_inputs(2, 1), ends=[0])).any()


@cfunc(types.void(types.int64, types.float32, types.int64, types.int64, types.int64))
def round_twice(numbers: Any, scale: Any, zero: Any, inputs: Any, factors: Any) -> None:
    for i in range(2):
        inverse = np.float32(1) / scale if scale else np.float32(0)
        rounding(numbers, top_of(numbers), scale, inverse, zero, inputs + i * BLOCK, factors + i * FACTORS)


@pytest.mark.parametrize("scheme", PACKED, ids=str)
@pytest.mark.parametrize("size", [1e-20, 1, 1e20])
@pytest.mark.parametrize("larger", [1, 1.99, 2, 2.01, 1000])
def test_inputs_are_rounded_and_so_is_what_that_leaves(scheme: Scheme, size: float, larger: float) -> None:
    """In a group whose largest input is so much larger than the largest of the block."""
    x = (np.random.default_rng(0).normal(size=BLOCK) * size).astype(np.float32)
    group_scale = float(np.float32(np.abs(x).max() * larger / 127))
    rest, inputs, factors = x.copy(), np.zeros((2, BLOCK), np.int8), np.zeros(2, FACTOR)
    round_twice.ctypes(rest.ctypes.data, group_scale, scheme.zero, inputs.ctypes.data, factors.ctypes.data)
    powers = factors["power"] >> 23
    scales = group_scale * 2.0 ** (powers - SHIFTS)
    rounded = inputs.astype(np.float64) * scales[:, None]
    assert powers[0] == SHIFTS - int(np.log2(larger))
    assert all(63 <= most <= 127 for most in np.abs(inputs).max(1)), "scales are as small as they can be"
    assert np.abs(x - rounded[0]).max() <= 0.501 * scales[0]
    assert np.abs(x - rounded.sum(0)).max() <= 0.502 * scales[1]
    sums = inputs.sum(1, dtype=np.int32)
    if scheme.offsets:
        assert np.array_equal(factors["sum"].view(np.float32), sums * 2.0**powers)
    else:
        assert np.array_equal(factors["sum"], -scheme.zero * sums)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_zeros_are_rounded_to_zeros(scale: float) -> None:
    numbers, inputs, factors = np.zeros(BLOCK, np.float32), np.ones((2, BLOCK), np.int8), np.ones(2, FACTOR)
    round_twice.ctypes(numbers.ctypes.data, scale, INT4.zero, inputs.ctypes.data, factors.ctypes.data)
    for found in (inputs, factors["power"], factors["sum"], numbers):
        assert not found.any()


LOUD = 200
"""A token whose embedding has a number far larger than all others."""
PROMPTS = [[5, 6, 7, 8, 9], [LOUD, 3], [17] * 30]
NEXT = [LOUD, 40, 12]


@pytest.fixture(scope="module", params=[(kind, outputs) for kind in ("Q8_0", "Q4_0", "Q4_1") for outputs in (320, 325)])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Three slots, weights of each scheme, and an output layer with and without a last tile that is not full."""
    kind, vocabulary = request.param
    llama = random_llama(hidden_size=256, vocab_size=vocabulary)
    llama.model.embed_tokens.weight.data[LOUD, 40] = 20
    folder = tmp_path_factory.mktemp("models")
    source = write_gguf(folder / "model.gguf", llama, GGMLQuantizationType[kind])
    folder = convert(str(source), folder, slots=3, context=128, output=folder / "model")
    return Program(folder, read_manifest(folder), threads=2)


def read(program: Program) -> list[int]:
    """Reads the prompts, one after the other; where each slot goes on."""
    for slot, prompt in enumerate(PROMPTS):
        program.forward([prompt if slot == i else [] for i in range(3)], [0, 0, 0], [0])
    return [len(prompt) for prompt in PROMPTS]


def test_logits_of_a_row_are_the_same_alone_and_in_company(program: Program) -> None:
    starts = read(program)
    alone = []
    for slot, token in enumerate(NEXT):
        batch = [[token] if slot == i else [] for i in range(3)]
        alone.append(program.forward(batch, starts, [0])[0].copy())
    assert np.std(alone) > 0.1
    together = program.forward([[token] for token in NEXT], starts, range(3))
    assert np.array_equal(together, alone)
    # With a slot that reads a prompt, and with two rows of logits of the three that matter.
    batch = [[NEXT[0]], [LOUD, *range(20)], [NEXT[2]]]
    found = program.forward(batch, [starts[0], 0, starts[2]], [22, 0])
    assert np.array_equal(found, [alone[2], alone[0]])


@pytest.mark.parametrize("unknown", [-1, 336, 1 << 40])
def test_a_token_outside_the_vocabulary_is_an_error_and_no_crash(program: Program, unknown: int) -> None:
    starts = read(program)
    before = program.forward([[token] for token in NEXT], starts, range(3)).copy()
    with pytest.raises(RuntimeError):
        program.forward([[5], [unknown], []], [1, 1, 0], [0])
    assert np.array_equal(program.forward([[token] for token in NEXT], starts, range(3)), before)
