"""The inner loop of a packed weight: the products of 16 outputs with a few rows of inputs.

Nearly everything that takes time in a model goes through here, and it is the same for one row (as fast as memory brings
the weights) and for many (as fast as the processor multiplies): each block's numbers are unpacked once for several
rows and multiplied in integers, by what the processor has (block_sums.py).
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...models.recipes import BLOCK, TILE, Scheme
from ...system.instruction_sets import InstructionSet
from .block_sums import block_sums
from .linear_workspace import FACTORS, ROW
from .vectors import FLOAT, INT, LINE, LONG, Code, constant

AHEAD = 1024
"""How many bytes before they are needed weights are asked for, for each row: so much longer are others multiplied."""
PAIR = 16
"""Bytes of an entry of `order`."""
ARGUMENTS = 9
"""Of a tile."""
Variables = list[list[Any]]
"""Of vectors, [parts][rows]."""


def make_tile(rows: int, scheme: Scheme, isa: InstructionSet) -> Any:
    """A function for compiled code, tile(weight, order, bounds, groups, inputs, scales, base, out, stride).

    `weight` is the address of one tile, `inputs` are blocks of signed bytes [rows, 32] and then factors [rows],
    `scales` float32 [groups, rows], and `out` is float32 [rows, 16], the rows of which are `stride` bytes apart, and
    so are those of `base`, which is added if it is not 0. `order` are pairs of int64: a block of the weight, and that
    of the inputs that it is multiplied with. `bounds` are int64 [groups + 1]: the pairs of a group are those from its
    own entry to the next one's, and what they add up to is multiplied with its scales.
    """

    @intrinsic
    def tile(
        typing: Any, weight: Any, order: Any, bounds: Any, groups: Any, inputs: Any, scales: Any, base: Any, out: Any,
        stride: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            write_tile(builder, rows, scheme, isa, args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * ARGUMENTS), code

    return tile


def write_tile(builder: Any, rows: int, scheme: Scheme, isa: InstructionSet, args: Sequence[Any]) -> None:
    """LLVM's code of a call of such a function."""
    _Tile(builder, scheme, isa).write(rows, *args)


class _Tile(Code):
    def __init__(self, builder: Any, scheme: Scheme, isa: InstructionSet):
        super().__init__(builder)
        self.scheme, self.lanes, self.block = scheme, isa.lanes, block_sums(self, scheme, isa)
        self.floats, self.ints = ir.VectorType(FLOAT, isa.lanes), ir.VectorType(INT, isa.lanes)

    def write(
        self, rows: int, weight: Any, order: Any, bounds: Any, groups: Any, inputs: Any, scales: Any, base: Any,
        out: Any, stride: Any,
    ) -> None:  # fmt: skip
        b, parts = self.builder, self.block.parts
        self.align_stack()
        none = constant(self.floats, 0.0)
        totals, sums = ([[self.variable(none) for _ in range(rows)] for _ in parts] for _ in range(2))
        with cgutils.for_range(b, groups) as group:
            for place in chain(*sums):
                b.store(none, place)
            first, last = (self.load(self.offset(bounds, b.add(group.index, LONG(i)), 8), LONG) for i in (0, 1))
            with cgutils.for_range(b, last, first) as loop:
                self._add_pair(weight, self.offset(order, loop.index, PAIR), inputs, rows, sums)
            self._add_scaled(sums, self.offset(scales, group.index, rows * 4), totals)
        outputs = [(row, part, 4 * part * self.lanes) for row in range(rows) for part in parts]
        with b.if_then(b.icmp_signed("!=", base, LONG(0))):
            for row, part, here in outputs:
                known = self.load_floats(self.offset(self.offset(base, stride, row), here, 1), 32, self.lanes)
                b.store(b.fadd(known, b.load(totals[part][row])), totals[part][row])
        for row, part, here in outputs:
            self.store(b.load(totals[part][row]), self.offset(self.offset(out, stride, row), here, 1))

    def _add_pair(self, weight: Any, pair: Any, inputs: Any, rows: int, sums: Variables) -> None:
        """Adds to `sums` [parts][rows] what the two blocks give that the pair at an address names."""
        block, place = self.load(pair, LONG), self.load(self.offset(pair, 1, PAIR // 2), LONG)
        at, numbers = self.offset(weight, block, self.scheme.block_bytes), self.offset(inputs, place, rows * ROW)
        for line in range(0, self.scheme.block_bytes, LINE):
            self.prefetch(self.offset(at, rows * AHEAD + line, 1))
        numbers_of = [self.offset(numbers, row, BLOCK) for row in range(rows)]
        factors_of = [self.offset(self.offset(numbers, rows, BLOCK), row, FACTORS) for row in range(rows)]
        for first in range(0, rows, self.block.rows):
            some = slice(first, first + self.block.rows)
            self._add_block(at, numbers_of[some], factors_of[some], [part[some] for part in sums])

    def _add_scaled(self, sums: Variables, scales: Any, totals: Variables) -> None:
        """Adds to `totals` the sums of each row times its scale, given the address of these."""
        for part, part_totals in zip(sums, totals, strict=True):
            for row, (place, total) in enumerate(zip(part, part_totals, strict=True)):
                scale = self.spread(self.offset(scales, row, 4), FLOAT, self.lanes)
                scaled = self.multiply_add(self.builder.load(place), scale, self.builder.load(total))
                self.builder.store(scaled, total)

    def _add_block(self, at: Any, rows: list[Any], factors: list[Any], totals: Variables) -> None:
        """Adds to `totals` what the block of weights at an address gives with the inputs of each row."""
        b, scheme = self.builder, self.scheme
        addends = [self.offset(factor, 1, FACTORS // 2) for factor in factors]

        def starts() -> list[Any]:
            if scheme.offsets or self.block.signed:
                return [constant(self.ints, 0)] * len(rows)
            return [self.spread(addend, INT, self.lanes) for addend in addends]

        for part, sums in enumerate(self.block.sums(self.offset(at, scheme.head_bytes, 1), rows, starts)):
            heads = [self.offset(at, 2 * (i * TILE + part * self.lanes), 1) for i in range(1 + scheme.offsets)]
            scale, *offsets = [self.load_floats(head, 16, self.lanes) for head in heads]
            for place, products, factor, addend in zip(totals[part], sums, factors, addends, strict=True):
                total = b.load(place)
                for offset in offsets:
                    total = self.multiply_add(offset, self.spread(addend, FLOAT, self.lanes), total)
                # A zero becomes so small a number that it does not show.
                bits = b.bitcast(b.sitofp(products, self.floats), self.ints)
                scaled = b.bitcast(b.add(bits, self.spread(factor, INT, self.lanes)), self.floats)
                b.store(self.multiply_add(scaled, scale, total), place)
