"""The inner loop of a packed weight: the products of 16 outputs with a few rows of inputs.

Nearly everything that takes time in a model goes through here, and it is the same for one row (as fast as memory brings
the weights) and for many (as fast as the processor multiplies): each block's numbers are unpacked once for up to eight
rows and multiplied in integers, four at a time, by `vpdpbusd` where the processor has it.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...models.recipes import BLOCK, QUADS, TILE, Scheme
from .dot import BYTES, PAIRS, dot
from .instruction_sets import Products
from .linear_workspace import FACTORS
from .vectors import FLOAT, FLOATS, INT, INTS, LONG, Code

AHEAD, LINE = 1024, 64
"""How many bytes before they are needed weights are asked for while others are multiplied, and how many come."""
PAIR = 16
"""Bytes of an entry of `order`."""


def make_tile(rows: int, scheme: Scheme, products: Products) -> Any:
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
            _Tile(builder, scheme, products).write(rows, *args)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), code

    return tile


class _Tile(Code):
    def __init__(self, builder: Any, scheme: Scheme, products: Products):
        super().__init__(builder)
        self.scheme, self.products = scheme, products

    def write(
        self, rows: int, weight: Any, order: Any, count: Any, inputs: Any, factors: Any, width: Any, base: Any,
        out: Any, stride: Any,
    ) -> None:  # fmt: skip
        b = self.builder
        totals = [self.variable(self.zeros()) for _ in range(rows)]
        input_rows = [self.offset(inputs, width, row * BLOCK) for row in range(rows)]
        factor_rows = [self.offset(factors, width, row * FACTORS) for row in range(rows)]
        with cgutils.for_range(b, count) as loop:
            pair = self.offset(order, loop.index, PAIR)
            block, place = self.load(pair, LONG), self.load(self.offset(pair, 1, PAIR // 2), LONG)
            at = self.offset(weight, block, self.scheme.block_bytes)
            for line in range(0, self.scheme.block_bytes, LINE):
                self.prefetch(self.offset(at, AHEAD + line, 1))
            floats = [self.load_floats(self.offset(at, i, 2 * TILE), 16) for i in range(1 + self.scheme.offsets)]
            quads = self._quads(self.offset(at, self.scheme.head_bytes, 1))
            for row in range(rows):
                numbers = self.offset(input_rows[row], place, BLOCK)
                factor = self.offset(factor_rows[row], place, FACTORS)
                addend = self.offset(factor, 1, FACTORS // 2)
                total, products = b.load(totals[row]), self.zeros(INTS)
                if self.scheme.offsets:
                    total = self.multiply_add(floats[1], self.spread(addend, FLOAT), total)
                else:
                    products = self.spread(addend, INT)
                for i, quad in enumerate(quads):
                    four = b.bitcast(self.spread(self.offset(numbers, i, 4), INT), BYTES)
                    products = dot(self, self.products, self.scheme.bits, products, quad, four)
                step = b.fmul(floats[0], self.spread(factor, FLOAT))
                b.store(self.multiply_add(b.sitofp(products, FLOATS), step, total), totals[row])
        with b.if_then(b.icmp_signed("!=", base, LONG(0))):
            for row in range(rows):
                known = self.load_floats(self.offset(base, stride, row), 32)
                b.store(b.fadd(known, b.load(totals[row])), totals[row])
        for row in range(rows):
            self.store(b.load(totals[row]), self.offset(out, stride, row))

    def _quads(self, at: Any) -> list[Any]:
        """The numbers of a block, unsigned bytes: four of each output, eight times."""
        b = self.builder
        if self.scheme.bits == 8:
            return [self.load(self.offset(at, i, 4 * TILE), BYTES) for i in range(QUADS)]
        quads = []
        mask, half = ir.Constant(BYTES, [15] * 4 * TILE), ir.Constant(PAIRS, [4] * 2 * TILE)
        for i in range(QUADS // 2):
            both = self.load(self.offset(at, i, 4 * TILE), BYTES)
            high = b.bitcast(b.lshr(b.bitcast(both, PAIRS), half), BYTES)
            quads += [b.and_(both, mask), b.and_(high, mask)]
        return quads
