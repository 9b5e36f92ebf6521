"""The two inner loops of attention, for a few rows of one head: queries times keys, and weights times values.

Keys lie 16 by 16, [keys / 16, size, 16], so that a vector holds one number of each of 16 keys, and values one after the
other, [keys, size]: neither loop has to sum up a vector. Each number that is loaded meets up to eight rows.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .attention_workspace import KEYS
from .vectors import FLOAT, LANES, LONG, Code


def make_scores(queries: int, size: int, bits: int) -> Any:
    """A function for compiled code, scores(rows, count, keys, there, out): the products [count, KEYS] of `count` rows
    [count, size], float32, with KEYS keys, the first of 16, in floats of `bits` bits. All but the counts are addresses;
    `there`, which `make_sums` needs, is how many keys matter. `queries` is how many rows there often are."""
    return _in_parts(lambda rows: _inner_loop(_Head.scores, rows, size, bits), queries, 4 * size, 4 * KEYS)


def make_sums(queries: int, size: int, bits: int) -> Any:
    """The same for sums(weights, count, values, there, out): adds the products of weights [count, KEYS] with `there`
    values, in floats of `bits` bits, to `out` [count, size]."""
    return _in_parts(lambda rows: _inner_loop(_Head.sums, rows, size, bits), queries, 4 * KEYS, 4 * size)


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


def _inner_loop(write: Callable[..., None], rows: int, size: int, bits: int) -> Any:
    @intrinsic
    def loop(typing: Any, numbers: Any, cached: Any, there: Any, out: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            write(_Head(builder), rows, size, bits, *args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), code

    return loop


class _Head(Code):
    def scores(self, rows: int, size: int, bits: int, queries: Any, keys: Any, there: Any, out: Any) -> None:
        vector, vectors = LANES * bits // 8, _vectors(rows)
        with cgutils.for_range(self.builder, LONG(KEYS // LANES // vectors)) as part:
            first = self.offset(keys, part.index, vectors * size * vector)
            totals = self._zeros(rows, vectors, LANES)
            with cgutils.for_range(self.builder, LONG(size)) as loop:
                at = self.offset(first, loop.index, vector)
                columns = [self.load_floats(self.offset(at, i, size * vector), bits) for i in range(vectors)]
                self._add(totals, self.offset(queries, loop.index, 4), 4 * size, columns)
            place = self.offset(out, part.index, vectors * LANES * 4)
            for row in range(rows):
                for i, total in enumerate(totals[row]):
                    self.store(self.builder.load(total), self.offset(place, row * KEYS + i * LANES, 4))

    def sums(self, rows: int, size: int, bits: int, weights: Any, values: Any, there: Any, out: Any) -> None:
        lanes = min(LANES, size & -size)  # A power of two that divides the size.
        vectors = max(n for n in range(1, _vectors(rows) + 1) if size // lanes % n == 0)
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

    def _zeros(self, rows: int, vectors: int, lanes: int) -> list[list[Any]]:
        zeros = self.zeros(ir.VectorType(FLOAT, lanes))
        return [[self.variable(zeros) for _ in range(vectors)] for _ in range(rows)]

    def _add(self, totals: list[list[Any]], numbers: Any, stride: int, columns: list[Any]) -> None:
        """Adds the product of each row's number with all columns."""
        for row, row_totals in enumerate(totals):
            number = self.spread(self.offset(numbers, row, stride), FLOAT, columns[0].type.count)
            for total, column in zip(row_totals, columns, strict=True):
                self.builder.store(self.multiply_add(number, column, self.builder.load(total)), total)


def _vectors(rows: int) -> int:
    """How many vectors each row has at a time: enough for the processor to do other sums while one is added to."""
    return 2 if rows > 4 else 4
