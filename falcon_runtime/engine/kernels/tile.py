"""The inner loop of a packed weight: the products of 16 outputs with a few rows of inputs.

Nearly everything that takes time in a model goes through here, and it is the same for one row (as fast as memory brings
the weights) and for many (as fast as the processor multiplies): each block's numbers are unpacked once for several
rows and multiplied in integers, by what the processor has (block_sums.py).
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...models.recipes import BLOCK, TILE, Scheme
from ...system.instruction_sets import InstructionSet
from .block_sums import block_sums
from .linear_workspace import FACTORS
from .vectors import FLOAT, INT, LONG, Code, constant

AHEAD, LINE = 1024, 64
"""How many bytes before they are needed weights are asked for while others are multiplied, and how many come."""
PAIR = 16
"""Bytes of an entry of `order`."""


def make_tile(rows: int, scheme: Scheme, isa: InstructionSet) -> Any:
    """A function for compiled code, tile(weight, order, count, inputs, factors, width, base, out, stride).

    `weight` is the address of one tile, `inputs` are signed bytes [rows, 32 * width], `factors` [rows, width], and
    `out` is float32 [rows, 16], the rows of which are `stride` bytes apart, and so is `base`, which is added if it is
    not 0. `order` are `count` pairs of int64: a block of the weight, and the block of the inputs, of `width`, that it
    is multiplied with.
    """

    @intrinsic
    def tile(
        typing: Any, weight: Any, order: Any, count: Any, inputs: Any, factors: Any, width: Any, base: Any, out: Any,
        stride: Any,
    ) -> Any:  # fmt: skip
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            write_tile(builder, rows, scheme, isa, args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), code

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
        self, rows: int, weight: Any, order: Any, count: Any, inputs: Any, factors: Any, width: Any, base: Any,
        out: Any, stride: Any,
    ) -> None:  # fmt: skip
        b, parts = self.builder, self.block.parts
        totals = [[self.variable(constant(self.floats, 0.0)) for _ in range(rows)] for _ in parts]
        input_rows = [self.offset(inputs, width, row * BLOCK) for row in range(rows)]
        factor_rows = [self.offset(factors, width, row * FACTORS) for row in range(rows)]
        with cgutils.for_range(b, count) as loop:
            pair = self.offset(order, loop.index, PAIR)
            block, place = self.load(pair, LONG), self.load(self.offset(pair, 1, PAIR // 2), LONG)
            at = self.offset(weight, block, self.scheme.block_bytes)
            for line in range(0, self.scheme.block_bytes, LINE):
                self.prefetch(self.offset(at, AHEAD + line, 1))
            for first in range(0, rows, self.block.rows):
                some = slice(first, first + self.block.rows)
                numbers = [self.offset(row, place, BLOCK) for row in input_rows[some]]
                their_factors = [self.offset(row, place, FACTORS) for row in factor_rows[some]]
                self._add_block(at, numbers, their_factors, [part[some] for part in totals])
        outputs = [(row, part, 4 * part * self.lanes) for row in range(rows) for part in parts]
        with b.if_then(b.icmp_signed("!=", base, LONG(0))):
            for row, part, here in outputs:
                known = self.load_floats(self.offset(self.offset(base, stride, row), here, 1), 32, self.lanes)
                b.store(b.fadd(known, b.load(totals[part][row])), totals[part][row])
        for row, part, here in outputs:
            self.store(b.load(totals[part][row]), self.offset(self.offset(out, stride, row), here, 1))

    def _add_block(self, at: Any, rows: list[Any], factors: list[Any], totals: list[list[Any]]) -> None:
        """Adds to `totals` [parts][rows] what the block of weights at an address gives with the inputs of each row."""
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
                step = b.fmul(scale, self.spread(factor, FLOAT, self.lanes))
                b.store(self.multiply_add(b.sitofp(products, self.floats), step, total), place)
