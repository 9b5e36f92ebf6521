"""The two inner loops of attention, for a few rows of one head: queries times keys, and weights times values.

Keys lie 16 by 16, [keys / 16, size, 16], so that a vector holds one number of each of 16 keys, and values one after the
other, [keys, size]: neither loop has to sum up a vector (attention_cache.py). Each number that is loaded meets up
to eight rows.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ...system.instruction_sets import InstructionSet
from .attention_workspace import KEYS
from .vectors import FLOAT, LANES, LONG, Code

MOST_VECTORS = 8
"""Of a row at a time: enough for the processor to do other sums while one is added to."""


def make_scores(queries: int, size: int, bits: int, isa: InstructionSet) -> Any:
    """A function for compiled code, scores(rows, count, keys, there, out): the products [count, KEYS] of `count` rows
    [count, size], float32, with KEYS keys, a block of the cache, in numbers of `bits` bits. All but the counts are
    addresses; `there`, which `make_sums` needs, is how many keys matter. `queries` is how many rows there often are."""
    return _in_parts(lambda rows: _inner_loop(_Head.scores, isa, rows, size, bits), queries, 4 * size, 4 * KEYS)


def make_sums(queries: int, size: int, bits: int, isa: InstructionSet) -> Any:
    """The same for sums(weights, count, values, there, out): adds the products of weights [count, KEYS] with `there`
    values, in numbers of `bits` bits, to `out` [count, size]."""
    return _in_parts(lambda rows: _inner_loop(_Head.sums, isa, rows, size, bits), queries, 4 * KEYS, 4 * size)


def _in_parts(make: Callable[[int], Any], often: int, stride: int, out_stride: int) -> Any:
    """Takes eight rows at a time, and what is left in as few parts as can be."""
    eight, all_left, four, two, one = (make(rows) for rows in (8, often, 4, 2, 1))

    @njit
    def run(rows: Any, count: Any, numbers: Any, there: Any, out: Any) -> None:
        i = 0
        while i < count:
            left, here, result = count - i, rows + i * stride, out + i * out_stride
            if left >= 8:
                eight(here, numbers, there, result)
                i += 8
            elif left == often:
                all_left(here, numbers, there, result)
                i += often
            elif left >= 4:
                four(here, numbers, there, result)
                i += 4
            elif left >= 2:
                two(here, numbers, there, result)
                i += 2
            else:
                one(here, numbers, there, result)
                i += 1

    return run


def _inner_loop(write: Callable[..., None], isa: InstructionSet, rows: int, size: int, bits: int) -> Any:
    @intrinsic
    def loop(typing: Any, numbers: Any, cached: Any, there: Any, out: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            write(_Head(builder, isa), rows, size, bits, *args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    return loop


class _Head(Code):
    def __init__(self, builder: Any, isa: InstructionSet):
        super().__init__(builder)
        self.isa = isa

    def scores(self, rows: int, size: int, bits: int, queries: Any, keys: Any, there: Any, out: Any) -> None:
        lanes, item = self.isa.lanes, bits // 8
        vectors = self._vectors(rows, KEYS // lanes)
        with cgutils.for_range(self.builder, LONG(KEYS // lanes // vectors)) as part:
            totals = self._zeros(rows, vectors, lanes)
            places = []  # Of the first number of each vector of keys, which are LANES by LANES.
            for i in range(vectors):
                key = self.builder.add(self.builder.mul(part.index, LONG(vectors * lanes)), LONG(i * lanes))
                block, within = self.builder.udiv(key, LONG(LANES)), self.builder.urem(key, LONG(LANES))
                places.append(self.offset(self.offset(keys, block, size * LANES * item), within, item))
            with cgutils.for_range(self.builder, LONG(size)) as loop:
                columns = [self.load_floats(self.offset(at, loop.index, LANES * item), bits, lanes) for at in places]
                self._add(totals, self.offset(queries, loop.index, 4), 4 * size, columns)
            place = self.offset(out, part.index, vectors * lanes * 4)
            if bits == 8:
                first = self.offset(self.offset(keys, KEYS, size), part.index, vectors * lanes * 4)
                scales = [self.load_floats(self.offset(first, i * lanes, 4), 32, lanes) for i in range(vectors)]
            for row in range(rows):
                for i, total in enumerate(totals[row]):
                    score = self.builder.load(total)
                    if bits == 8:
                        score = self.builder.fmul(score, scales[i])
                    self.store(score, self.offset(place, row * KEYS + i * lanes, 4))

    def sums(self, rows: int, size: int, bits: int, weights: Any, values: Any, there: Any, out: Any) -> None:
        lanes = min(self.isa.lanes, size & -size)  # A power of two that divides the size.
        vectors = self._vectors(rows, size // lanes)
        with cgutils.for_range(self.builder, LONG(size // lanes // vectors)) as part:
            first = self.offset(values, part.index, vectors * lanes * bits // 8)
            totals = self._zeros(rows, vectors, lanes)
            with cgutils.for_range(self.builder, there) as loop:
                at = self.offset(first, loop.index, size * bits // 8)
                columns = [self.load_floats(self.offset(at, i, lanes * bits // 8), bits, lanes) for i in range(vectors)]
                self._add(totals, self.offset(weights, loop.index, 4), 4 * KEYS, columns)
            place = self.offset(out, part.index, vectors * lanes * 4)
            for row in range(rows):
                for i, total in enumerate(totals[row]):
                    at = self.offset(place, row * size + i * lanes, 4)
                    self.store(self.builder.fadd(self.load_floats(at, 32, lanes), self.builder.load(total)), at)

    def _vectors(self, rows: int, count: int) -> int:
        """How many of `count` vectors each row has at a time: as many as three quarters of the registers hold the sums
        of; the others are for what is multiplied."""
        most = max(1, self.isa.registers * 3 // 4 // rows)
        return max(n for n in range(1, min(most, MOST_VECTORS) + 1) if count % n == 0)

    def _zeros(self, rows: int, vectors: int, lanes: int) -> list[list[Any]]:
        zeros = self.zeros(ir.VectorType(FLOAT, lanes))
        return [[self.variable(zeros) for _ in range(vectors)] for _ in range(rows)]

    def _add(self, totals: list[list[Any]], numbers: Any, stride: int, columns: list[Any]) -> None:
        """Adds the product of each row's number with all columns."""
        for row, row_totals in enumerate(totals):
            number = self.spread(self.offset(numbers, row, stride), FLOAT, columns[0].type.count)
            for total, column in zip(row_totals, columns, strict=True):
                self.builder.store(self.multiply_add(number, column, self.builder.load(total)), total)
