"""The first step of the products with packed weights: the inputs of a row, and their quantization.

Rows lie as they will be multiplied, a band of them block by block, so that one address and constants reach them all.
"""

from typing import Any

import numpy as np
from numba import carray, njit

from ...models.recipes import BLOCK, GROUP, SHIFTS
from .arithmetic import LOG2, F, exp2, higher, select
from .linear_workspace import (
    BAND,
    CHUNK,
    FACTORS,
    GATED,
    LEAST,
    NORMED,
    OUTLIER,
    ROW,
    SCRATCH,
    WORKSPACE,
)
from .passed import pointer
from .rounding import rounding, top_of


@njit
def workspace_at(address: Any) -> Any:
    return carray(pointer(address), 1, WORKSPACE)[0]


@njit
def _floats(address: Any, first: Any, count: Any) -> Any:
    """`count` float32 from the place `first` on: LLVM makes vectors of loops over all of an array, and not over a part
    of one, where numba's indices might be negative."""
    return carray(pointer(address + first * 4), count, np.float32)


@njit(fastmath=True)
def _make_plain(x: Any, numbers: Any) -> None:
    for i in range(len(numbers)):
        numbers[i] = x[i]


@njit(fastmath=True)
def _rms_factor(row: Any, eps: Any) -> Any:
    """What RMSNorm (Zhang and Sennrich, 2019, arXiv:1910.07467) multiplies a row with."""
    square = F(0)
    for i in range(len(row)):
        square += row[i] * row[i]
    return F(1) / np.sqrt(F(square / F(len(row)) + eps))


@njit(fastmath=True)
def _make_normed(x: Any, norm: Any, factor: Any, numbers: Any) -> None:
    for i in range(len(numbers)):
        numbers[i] = x[i] * factor * norm[i]


@njit(fastmath=True, error_model="numpy")  # Without a test of each divisor, which LLVM makes no vectors of.
def _make_gated(gates: Any, ups: Any, numbers: Any) -> None:
    """SwiGLU (Shazeer, 2020, arXiv:2002.05202)."""
    for i in range(len(numbers)):
        power = exp2(F(-abs(gates[i]) * F(1 / LOG2)))
        sigmoid = select(gates[i] >= F(0), F(1), power) / (F(1) + power)
        numbers[i] = gates[i] * sigmoid * ups[i]


@njit
def _make(w: Any, row: Any, first: Any, numbers: Any) -> None:
    """The inputs of blocks from `first` on, as float32. A row of a gated product has its gates and then its ups."""
    width, count, first = w.blocks * BLOCK, len(numbers), first * BLOCK
    x = w.x + row * width * 4 * (2 if w.kind == GATED else 1)
    some = _floats(x, first, count)
    if w.kind == NORMED:
        factor = _rms_factor(_floats(x, 0, width), F(w.eps))
        _make_normed(some, _floats(w.norm, first, count), factor, numbers)
    elif w.kind == GATED:
        _make_gated(some, _floats(x, width + first, count), numbers)
    else:
        _make_plain(some, numbers)


@njit
def band_of(row: Any, rows: Any) -> Any:
    """The first row of a row's band, and how many it has: BAND, and of the rows left over four, three, two or one."""
    first = row - row % BAND
    left = rows - first
    if left >= BAND:
        return first, BAND
    if left <= 4:
        return first, left
    return (first, 4) if row < first + 4 else (first + 4, left - 4)


@njit
def band_inputs(w: Any, first: Any) -> Any:
    """The address of the inputs of a band, given its first row."""
    return w.inputs + first * 2 * w.blocks * ROW


@njit
def band_scales(w: Any, first: Any) -> Any:
    """The address of what the groups of a band are scaled with."""
    return w.scales + first * w.groups * 4


@njit
def _zero(address: Any, size: Any) -> None:
    carray(pointer(address), size // 8, np.int64)[:] = 0


@njit
def _group_scale(tops: Any) -> Any:
    """The scale of a group of blocks with these largest magnitudes, and what makes integers of their inputs."""
    top = F(0)
    for one in tops:
        top = higher(top, one)
    return (top / F(127), F(127) / top) if top > F(LEAST) else (F(0), F(0))


@njit
def quantize_chunk(address: Any, thread: Any, unit: Any) -> None:
    """The first step, for CHUNK blocks of a row."""
    w = workspace_at(address)
    chunks = (w.blocks + CHUNK - 1) // CHUNK
    row, first = unit // chunks, unit % chunks * CHUNK
    count = min(CHUNK, w.blocks - first)
    numbers = w.scratch + thread * SCRATCH * 4
    _make(w, row, first, carray(pointer(numbers), count * BLOCK, np.float32))
    tops = _floats(numbers, CHUNK * BLOCK, count)
    outlier = F(0)
    for i in range(count):
        tops[i] = top_of(numbers + i * BLOCK * 4)
        outlier += tops[i]
    outlier *= F(OUTLIER / count)
    start, rows = band_of(row, w.rows)
    size = rows * ROW
    scales = carray(pointer(band_scales(w, start)), (w.groups, rows), np.float32)[first // GROUP :, row - start]
    inputs = band_inputs(w, start) + first * size + (row - start) * BLOCK
    factors = band_inputs(w, start) + first * size + rows * BLOCK + (row - start) * FACTORS
    twice = carray(pointer(w.twice), w.blocks, np.uint8)
    scale, inverse = F(0), F(0)
    for i in range(count):
        if i % GROUP == 0:
            scale, inverse = _group_scale(tops[i : min(i + GROUP, count)])
            scales[i // GROUP] = scale * F(2.0**-SHIFTS)
        at, here, again = numbers + i * BLOCK * 4, i * size, (w.blocks + i) * size
        rounding(at, tops[i], scale, inverse, w.zero, inputs + here, factors + here)
        if w.kind == NORMED:
            if tops[i] > outlier or w.precise:
                twice[first + i] = 1
                rounding(at, top_of(at), scale, inverse, w.zero, inputs + again, factors + again)
            else:  # Another row may have an outlier there.
                _zero(inputs + again, BLOCK)
                _zero(factors + again, FACTORS)
