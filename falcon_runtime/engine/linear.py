"""The kernels of packed weights: the operators that convert/operators.py describes, but for attention.

ExecuTorch's own for 4 bits (XNNPACK) round a token's inputs with one scale for all of them, and copy every weight when
a model is loaded. These take the weights where the file is mapped, round 32 inputs at a time as llama.cpp does, and do
on the way what stands around a linear in a Llama.

What a norm gives has a few channels that are tens of times larger than all others, and whose neighbours would lose
their last bits to the common scale. A block with one of them is multiplied twice: what rounding leaves of its inputs is
rounded and multiplied again, as another block beside the others. That is 16 bits where 8 are too few, at the price of
one block more. A `precise` product does so with all blocks.

A call works in two steps, each on all threads: the inputs are made and rounded, a row or a part of one at a time, and
then the outputs are computed, a few tiles at a time. Rows are independent of each other: each gets the same result
whatever else is in the batch.
"""

from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from ..recipes import BLOCK, PACKED, TILE, Scheme
from . import native
from .native import (
    LOG2,
    MAX_ROWS,
    MAX_THREADS,
    F,
    data_of,
    exp2,
    fail,
    from_half,
    pointer,
    set_rows,
    size_of,
    tensor_at,
    word_at,
)
from .tile import FACTORS, best_products, make_tile, rounding, top_of

CHUNK = 64
"""Blocks of a row that a thread rounds at a time."""
SERIAL = 2 * CHUNK
"""Up to so many blocks in all, it is not worth to wake the other threads."""
UNIT_BYTES = 256 * 1024
"""Of weights that a thread multiplies with all rows before it takes the next: they should stay in its cache."""
UNITS = 16
"""Into which a weight is divided at least."""
OUTLIER = 3
"""A block of normed inputs is taken twice if its largest number is so many times the mean of those of all blocks."""
# What the parts of a call tell each other: addresses of data, and numbers.
X, NORM, EPS, RESIDUAL, OUT, WEIGHT, INPUTS, INPUT_FACTORS, TWICE, ORDER = range(10)
KIND, PRECISE, ROWS, BLOCKS, TILES, OUTPUTS, UNIT, PAIRS, WORDS = range(10, 19)
PLAIN, NORMED, GATED = range(3)
NORM_ARGUMENTS, ADD_ARGUMENTS = 8, 5
"""Of norm_linear and of the other two, the result being given twice."""


def _prepare(call_at: int, scratch_at: int) -> Any:
    """The first step."""

    @njit(fastmath=True)
    def make_plain(x: Any, first: Any, numbers: Any) -> None:
        for i in range(len(numbers)):
            numbers[i] = x[first + i]

    @njit(fastmath=True)
    def make_normed(x: Any, first: Any, numbers: Any, norm: Any, eps: Any) -> None:
        square = F(0)
        for i in range(len(x)):
            square += x[i] * x[i]
        factor = F(1) / np.sqrt(F(square / F(len(x)) + eps))
        for i in range(len(numbers)):
            numbers[i] = x[first + i] * factor * norm[first + i]

    @njit(fastmath=True)
    def make_gated(x: Any, first: Any, numbers: Any) -> None:
        up = len(x) // 2
        for i in range(len(numbers)):
            gate = x[first + i]
            power = exp2(F(-abs(gate) * F(1 / LOG2)))
            sigmoid = (F(1) if gate >= F(0) else power) / (F(1) + power)
            numbers[i] = gate * sigmoid * x[up + first + i]

    @njit
    def prepare(zero: Any, thread: Any, unit: Any) -> None:
        call = carray(pointer(call_at), WORDS, np.int64)
        blocks = call[BLOCKS]
        chunks = (blocks + CHUNK - 1) // CHUNK
        row, first = unit // chunks, unit % chunks * CHUNK
        count = min(CHUNK, blocks - first)
        scratch = scratch_at + thread * CHUNK * BLOCK * 4
        numbers = carray(pointer(scratch), count * BLOCK, np.float32)
        width = blocks * BLOCK * (2 if call[KIND] == GATED else 1)
        x = carray(pointer(call[X] + row * width * 4), width, np.float32)
        if call[KIND] == NORMED:
            norm = carray(pointer(call[NORM]), width, np.float32)
            make_normed(x, first * BLOCK, numbers, norm, F(carray(pointer(call[EPS]), 1, np.float64)[0]))
        elif call[KIND] == GATED:
            make_gated(x, first * BLOCK, numbers)
        else:
            make_plain(x, first * BLOCK, numbers)
        place = row * 2 * blocks + first
        inputs, factors = call[INPUTS] + place * BLOCK, call[INPUT_FACTORS] + place * FACTORS
        outlier = F(0)
        if call[KIND] == NORMED:
            twice, none = carray(pointer(call[TWICE]), blocks, np.uint8), carray(pointer(factors), 4 * blocks, np.int32)
            for i in range(count):
                outlier += top_of(scratch + i * BLOCK * 4)
            outlier *= F(OUTLIER / count)
        for i in range(count):
            at, again = scratch + i * BLOCK * 4, blocks + i
            top = top_of(at)
            rounding(at, top, zero, inputs + i * BLOCK, factors + i * FACTORS)
            if call[KIND] == NORMED:
                if top > outlier or call[PRECISE]:
                    twice[first + i] = 1
                    rounding(at, top_of(at), zero, inputs + again * BLOCK, factors + again * FACTORS)
                else:
                    none[2 * again], none[2 * again + 1] = 0, 0

    return prepare


def _compute(scheme: Scheme, call_at: int, scratch_at: int) -> Any:
    """The second step."""
    eight, four, two, one = (make_tile(rows, scheme, best_products()) for rows in (8, 4, 2, 1))
    block_bytes = scheme.block_bytes

    @cfunc(types.void(types.int64, types.int64, types.int64))
    def compute(_: Any, thread: Any, unit: Any) -> None:
        call = carray(pointer(call_at), WORDS, np.int64)
        blocks, outputs, order, pairs = call[BLOCKS], call[OUTPUTS], call[ORDER], call[PAIRS]
        tile_bytes, stride, width = blocks * block_bytes, outputs * 4, 2 * blocks
        first, last = unit * call[UNIT], min((unit + 1) * call[UNIT], call[TILES])
        row = 0
        while row < call[ROWS]:
            left = call[ROWS] - row
            count = 8 if left >= 8 else 4 if left >= 4 else 2 if left >= 2 else 1
            inputs, factors = call[INPUTS] + row * width * BLOCK, call[INPUT_FACTORS] + row * width * FACTORS
            for tile in range(first, last):
                weight, here = call[WEIGHT] + tile * tile_bytes, row * stride + tile * TILE * 4
                base, out, step = call[RESIDUAL] + here if call[RESIDUAL] else 0, call[OUT] + here, stride
                whole = (tile + 1) * TILE <= outputs
                if not whole:
                    out, step = scratch_at + thread * CHUNK * BLOCK * 4, TILE * 4
                if count == 8:
                    eight(weight, order, pairs, inputs, factors, width, base, out, step)
                elif count == 4:
                    four(weight, order, pairs, inputs, factors, width, base, out, step)
                elif count == 2:
                    two(weight, order, pairs, inputs, factors, width, base, out, step)
                else:
                    one(weight, order, pairs, inputs, factors, width, base, out, step)
                if not whole:
                    for i in range(count):
                        for k in range(outputs - tile * TILE):
                            number = carray(pointer(out + i * step), TILE, np.float32)[k]
                            carray(pointer(call[OUT] + here + i * stride), TILE, np.float32)[k] = number
            row += count

    return compute


class _Kernels:
    """The compiled kernels, and the memory that they work in."""

    def __init__(self) -> None:
        self.call = np.zeros(WORDS, np.int64)
        self.scratch = np.zeros((MAX_THREADS, CHUNK * BLOCK), np.float32)
        self.table = np.zeros((len(PACKED), 5), np.int64)
        """Of each scheme the bytes of a block and those before its integers, their bits, what is added to them, and the
        address of the second step."""
        self.memory = np.zeros(5, np.int64)
        """Room for the most blocks that a row has: how many these are, and the addresses of their numbers, their
        factors, which of them are taken twice, and the order in which they are multiplied."""
        self.compute: dict[Scheme, Any] = {}
        self.buffers: tuple[Any, ...] = ()
        self._register()

    def use(self, schemes: set[Scheme], inputs: int) -> None:
        for scheme in schemes - self.compute.keys():
            compute = _compute(scheme, self.call.ctypes.data, self.scratch.ctypes.data)
            self.table[len(self.compute)] = (
                scheme.block_bytes, scheme.head_bytes, scheme.bits, scheme.zero, compute.address,
            )  # fmt: skip
            self.compute[scheme] = compute
        if inputs // BLOCK > self.memory[0]:
            self.buffers = (
                np.zeros((MAX_ROWS, 2 * inputs), np.int8),
                np.zeros((MAX_ROWS, 2 * inputs // BLOCK, 2), np.float32),
                np.zeros(inputs // BLOCK, np.uint8),
                np.zeros((2 * inputs // BLOCK, 2), np.int64),
            )
            self.memory[:] = inputs // BLOCK, *(buffer.ctypes.data for buffer in self.buffers)

    def _register(self) -> None:
        call_at, table_at, memory_at = (array.ctypes.data for array in (self.call, self.table, self.memory))
        prepare, signature = _prepare(call_at, self.scratch.ctypes.data), types.void(*[types.int64] * 3)

        @cfunc(signature)
        def prepare_unit(zero: Any, thread: Any, unit: Any) -> None:
            prepare(zero, thread, unit)

        self.prepare = prepare_unit
        pool_at, prepare_at, schemes = native.POOL.ctypes.data, prepare_unit.address, len(PACKED)
        _, run = native.parallelize()

        @njit
        def scheme_of(weight: Any) -> Any:
            """The row of the table for a packed weight; -1 if its scheme is not there."""
            table = carray(pointer(table_at), (schemes, 5), np.int64)
            for i in range(schemes):
                if table[i, 0] == size_of(weight, 2):
                    return i
            return -1

        @cfunc(signature)
        def linear(context: Any, arguments: Any, count: Any) -> None:
            """All three in one, which compiles faster: a norm has more arguments, a gate an input twice as wide."""
            call = carray(pointer(call_at), WORDS, np.int64)
            memory = carray(pointer(memory_at), 5, np.int64)
            normed = count == NORM_ARGUMENTS
            if not normed and count != ADD_ARGUMENTS:
                fail(context)
                return
            x, weight = tensor_at(arguments, 0), tensor_at(arguments, 3 if normed else 1)
            out = tensor_at(arguments, count - 1)
            rows, tiles, blocks, scheme = size_of(x, 1), size_of(weight, 0), size_of(weight, 1), scheme_of(weight)
            gated = size_of(x, 2) == 2 * blocks * BLOCK
            fits = rows <= MAX_ROWS and blocks <= memory[0] and (gated or size_of(x, 2) == blocks * BLOCK)
            if scheme < 0 or not fits:
                fail(context)
                return
            table = carray(pointer(table_at), (schemes, 5), np.int64)
            block_bytes, zero, compute = table[scheme, 0], table[scheme, 3], table[scheme, 4]
            set_rows(out, rows)
            call[KIND] = NORMED if normed else GATED if gated else PLAIN
            call[X], call[WEIGHT], call[OUT], call[OUTPUTS] = data_of(x), data_of(weight), data_of(out), size_of(out, 2)
            call[ROWS], call[BLOCKS], call[TILES] = rows, blocks, tiles
            call[INPUTS], call[INPUT_FACTORS], call[TWICE], call[ORDER] = memory[1], memory[2], memory[3], memory[4]
            call[UNIT] = max(1, min(UNIT_BYTES // (blocks * block_bytes), tiles // UNITS))
            if normed:
                call[NORM], call[EPS], call[RESIDUAL] = data_of(tensor_at(arguments, 1)), word_at(arguments + 16), 0
                call[PRECISE] = word_at(word_at(arguments + 40)) & 1
            else:
                call[RESIDUAL] = data_of(tensor_at(arguments, 2))
            twice = carray(pointer(memory[3]), blocks, np.uint8)
            order = carray(pointer(memory[4]), 4 * blocks, np.int64)
            for block in range(blocks):
                twice[block], order[2 * block], order[2 * block + 1] = 0, block, block
            pool, units = word_at(pool_at), rows * ((blocks + CHUNK - 1) // CHUNK)
            if rows * blocks <= SERIAL:
                for unit in range(units):
                    prepare(zero, 0, unit)
            else:
                run(pool, prepare_at, zero, units, 1)
            pairs = blocks
            for block in range(blocks):
                if twice[block]:
                    order[2 * pairs], order[2 * pairs + 1] = block, blocks + block
                    pairs += 1
            call[PAIRS] = pairs
            run(pool, compute, 0, (tiles + call[UNIT] - 1) // call[UNIT], 1)

        @cfunc(signature)
        def embedding(context: Any, arguments: Any, count: Any) -> None:
            weight, out = tensor_at(arguments, 1), tensor_at(arguments, 2)
            rows, tiles, blocks = size_of(tensor_at(arguments, 0), 1), size_of(weight, 0), size_of(weight, 1)
            scheme = scheme_of(weight)
            if scheme < 0:
                fail(context)
                return
            table = carray(pointer(table_at), (schemes, 5), np.int64)[scheme]
            block_bytes, head, bits, zero = table[0], table[1], table[2], table[3]
            set_rows(out, rows)
            tokens = carray(pointer(data_of(tensor_at(arguments, 0))), rows, np.int64)
            result = carray(pointer(data_of(out)), rows * blocks * BLOCK, np.float32)
            for row in range(rows):
                tile, output = tokens[row] // TILE, tokens[row] % TILE
                if not 0 <= tile < tiles:
                    fail(context)
                    return
                for block in range(blocks):
                    at = data_of(weight) + (tile * blocks + block) * block_bytes
                    floats = carray(pointer(at), 2 * TILE, np.uint16)
                    stored = carray(pointer(at + head), block_bytes - head, np.uint8)
                    scale = from_half(floats[output])
                    offset = F(0) if zero else from_half(floats[TILE + output])
                    for i in range(BLOCK):
                        quad, place = i // 4, 4 * output + i % 4
                        if bits == 8:
                            q = np.int32(stored[4 * TILE * quad + place])
                        else:
                            q = np.int32(stored[4 * TILE * (quad // 2) + place]) >> (4 * (quad % 2)) & 15
                        result[(row * blocks + block) * BLOCK + i] = F(q - zero) * scale + offset

        for operator in ("norm_linear", "linear_add", "gated_linear_add"):
            native.register(operator, linear)
        native.register("embedding", embedding)


_kernels: list[_Kernels] = []


def register(schemes: set[Scheme], inputs: int) -> None:
    """Compiles the kernels for `schemes` and rows of up to `inputs` numbers, and makes them known to ExecuTorch."""
    if not _kernels:
        _kernels.append(_Kernels())
    _kernels[0].use(schemes, inputs)
