"""The products with packed weights: `norm_linear`, `linear_add` and `gated_linear_add` of convert/traced/operators.py.

ExecuTorch's own kernels for 4 bits (XNNPACK) quantize the inputs of a token with one scale for all of them, and copy
every weight when a model is loaded. These take the weights where the file is mapped, quantize inputs in blocks of 32,
each with a scale of its own, and do on the way what stands around a linear in a Llama.

What a norm gives has a few channels that are tens of times larger than all others (Dettmers et al., 2022, LLM.int8(),
arXiv:2208.07339, where they are multiplied in 16 bits), and whose neighbors would lose their last bits to the common
scale. A block with one of them is multiplied twice: what quantization leaves of its inputs is quantized and multiplied
again, as another block beside the others. That is 16 bits where 8 are too few, at the price of one more block. A
`precise` product does so with all blocks.

A call works in two steps, each on all threads: `quantize` makes the inputs and quantizes them, a row or a part of one
at a time, and `multiply` computes the outputs, a few tiles at a time. Rows are independent: each gets the same result
whatever else is in the batch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import carray, cfunc, njit

from ...models.architecture import MAX_TOKENS
from ...models.recipes import BLOCK, GROUP, TILE, Scheme
from ...system.instruction_sets import InstructionSet
from .linear_inputs import band_inputs, band_of, band_scales, quantize_chunk, workspace_at
from .linear_workspace import (
    ADD_ARGUMENTS,
    CHUNK,
    GATED,
    MAX_SCHEMES,
    NORM_ARGUMENTS,
    NORMED,
    PLAIN,
    SCHEME,
    SCRATCH,
    SERIAL,
    UNIT_BYTES,
    UNITS,
    groups_of,
)
from .passed import (
    KERNEL_SIGNATURE,
    UNIT_SIGNATURE,
    bool_at,
    call_unit,
    data_of,
    fail,
    float_at,
    parallelize,
    pointer,
    set_rows,
    size_of,
    tensor_at,
    word_at,
)
from .tile import make_tile

_groups_of = njit(groups_of)


@njit
def scheme_of(w: Any, weight: Any) -> Any:
    """The index of the scheme of a packed weight, told by the bytes of its blocks; -1 if it is unknown."""
    schemes = carray(pointer(w.schemes), MAX_SCHEMES, SCHEME)
    for i in range(w.scheme_count):
        if schemes[i].block_bytes == size_of(weight, 2):
            return i
    return -1


def multiply(scheme: Scheme, isa: InstructionSet) -> Mapping[str, Any]:
    """The second step, for weights of a scheme."""
    eight, four, three, two, one = (make_tile(rows, scheme, isa) for rows in (8, 4, 3, 2, 1))
    block_bytes = scheme.block_bytes

    @cfunc(UNIT_SIGNATURE)
    def multiply_unit(address: Any, thread: Any, unit: Any) -> None:
        w = workspace_at(address)
        blocks, outputs, order, bounds, groups = w.blocks, w.outputs, w.order, w.bounds, w.groups
        tile_bytes, stride = blocks * block_bytes, outputs * 4
        first, last = unit * w.unit, min((unit + 1) * w.unit, w.tiles)
        row = 0
        while row < w.rows:
            _, count = band_of(row, w.rows)
            inputs, scales = band_inputs(w, row), band_scales(w, row)
            for tile in range(first, last):
                weight, here = w.weight + tile * tile_bytes, row * stride + tile * TILE * 4
                base, out, step = w.residual + here if w.residual else 0, w.out + here, stride
                whole = (tile + 1) * TILE <= outputs
                if not whole:
                    out, step = w.scratch + thread * SCRATCH * 4, TILE * 4
                if count == 8:
                    eight(weight, order, bounds, groups, inputs, scales, base, out, step)
                elif count == 4:
                    four(weight, order, bounds, groups, inputs, scales, base, out, step)
                elif count == 3:
                    three(weight, order, bounds, groups, inputs, scales, base, out, step)
                elif count == 2:
                    two(weight, order, bounds, groups, inputs, scales, base, out, step)
                else:
                    one(weight, order, bounds, groups, inputs, scales, base, out, step)
                if not whole:
                    for i in range(count):
                        for k in range(outputs - tile * TILE):
                            number = carray(pointer(out + i * step), TILE, np.float32)[k]
                            carray(pointer(w.out + here + i * stride), TILE, np.float32)[k] = number
            row += count

    return {"multiply": multiply_unit}


@njit
def _begin(w: Any, arguments: Any, count: Any) -> Any:
    """Reads what the operator is called with. The index of the weight's scheme; -1 if it cannot be computed."""
    normed = count == NORM_ARGUMENTS
    if not normed and count != ADD_ARGUMENTS:
        return -1
    x, weight = tensor_at(arguments, 0), tensor_at(arguments, 3 if normed else 1)
    out = tensor_at(arguments, count - 1)
    w.rows, w.tiles, w.blocks = size_of(x, 1), size_of(weight, 0), size_of(weight, 1)
    w.groups = _groups_of(w.blocks)
    gated = size_of(x, 2) == 2 * w.blocks * BLOCK
    if w.rows > MAX_TOKENS or w.blocks > w.most_blocks or not (gated or size_of(x, 2) == w.blocks * BLOCK):
        return -1
    set_rows(out, w.rows)
    w.kind = NORMED if normed else GATED if gated else PLAIN
    w.x, w.weight, w.out, w.outputs = data_of(x), data_of(weight), data_of(out), size_of(out, 2)
    if normed:
        w.norm, w.eps, w.residual = data_of(tensor_at(arguments, 1)), float_at(arguments, 2), 0
        w.precise = bool_at(arguments, 5)
    else:
        w.residual = data_of(tensor_at(arguments, 2))
    return scheme_of(w, weight)


@njit
def _put_in_order(twice: Any, order: Any, bounds: Any) -> None:
    """Writes the blocks to `order`, and to `bounds` where groups begin and the last one ends. A block that is
    multiplied twice is so at once: later, its weights would have to come from farther away, while nothing new was asked
    of memory."""
    pairs = 0
    for block in range(len(twice)):
        if block % GROUP == 0:
            bounds[block // GROUP] = pairs
        for again in range(1 + twice[block]):
            order[pairs, 0], order[pairs, 1] = block, block + again * len(twice)
            pairs += 1
    bounds[-1] = pairs


def linear() -> Mapping[str, Any]:
    """The kernel of all three operators in one, which compiles faster: a norm has more arguments, a gate an input twice
    as wide. And the first step as the thread pool calls it."""

    @cfunc(UNIT_SIGNATURE)
    def quantize_unit(address: Any, thread: Any, unit: Any) -> None:
        quantize_chunk(address, thread, unit)

    @cfunc(KERNEL_SIGNATURE)
    def kernel(address: Any, context: Any, arguments: Any, count: Any) -> None:
        w = workspace_at(address)
        index = _begin(w, arguments, count)
        if index < 0:
            fail(context)
            return
        scheme = carray(pointer(w.schemes), MAX_SCHEMES, SCHEME)[index]
        w.zero = scheme.zero
        w.unit = max(1, min(UNIT_BYTES // (w.blocks * scheme.block_bytes), w.tiles // UNITS))
        twice = carray(pointer(w.twice), w.blocks, np.uint8)
        twice[:] = 0
        pool, units = word_at(w.pool), w.rows * ((w.blocks + CHUNK - 1) // CHUNK)
        if w.rows * w.blocks <= SERIAL:
            for unit in range(units):
                call_unit(w.quantize, address, 0, unit)
        else:
            parallelize(w.parallelize_with_thread, pool, w.quantize, address, units)
        order = carray(pointer(w.order), (2 * w.blocks, 2), np.int64)
        _put_in_order(twice, order, carray(pointer(w.bounds), w.groups + 1, np.int64))
        tasks = (w.tiles + w.unit - 1) // w.unit
        parallelize(w.parallelize_with_thread, pool, scheme.multiply, address, tasks)

    return {"quantize": quantize_unit, "linear": kernel}
