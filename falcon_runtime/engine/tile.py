"""The inner loop of a packed weight: the products of 16 outputs with a few rows of inputs.

Nearly everything that takes time in a model goes through here, and it is the same for one row (as fast as memory brings
the weights) and for many (as fast as the processor multiplies): each block's numbers are unpacked once for up to eight
rows and multiplied in integers, four at a time, by `vpdpbusd` where the processor has it.
"""

from typing import Any, Literal

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from ..recipes import BLOCK, QUADS, TILE, Scheme
from .vectors import BYTE, FLOAT, FLOATS, INT, INTS, LANES, LONG, SHORT, Code

FACTORS = 8
"""Bytes that a block of inputs has beside its 8-bit numbers: their scale, a float32, and what their sum adds to every
output: with offsets their own sum, a float32, and else an int32, that of the numbers times -`Scheme.zero`."""
AHEAD, LINE = 1024, 64
"""How many bytes before they are needed weights are asked for while others are multiplied, and how many come."""
PAIR = 16
"""Bytes of an entry of `order`."""
BYTES, SHORTS = ir.VectorType(BYTE, 4 * TILE), ir.VectorType(SHORT, 4 * TILE)

Products = Literal["avx512vnni", "avx2", "any"]
"""How bytes are multiplied: by instructions that a processor has, or as LLVM finds best."""


def best_products() -> Products:
    """Of the processor that numba compiles for."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    there = features.split(",")
    return "avx512vnni" if "+avx512vnni" in there else "avx2" if "+avx2" in there else "any"


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


@intrinsic
def top_of(typing: Any, numbers: Any) -> Any:
    """The largest magnitude of a block of 32 float32, given its address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _Rounding(builder).top(*args)

    return types.float32(types.int64), code


@intrinsic
def rounding(typing: Any, numbers: Any, top: Any, zero: Any, inputs: Any, factors: Any) -> Any:
    """Rounds a block of 32 float32, the largest magnitude of which is `top`, to `inputs` and `factors` for weights of a
    scheme with this `zero`, and leaves in the block what that is off by. All but `top` and `zero` are addresses."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _Rounding(builder).round(*args)
        return context.get_dummy_value()

    return types.void(types.int64, types.float32, types.int64, types.int64, types.int64), code


class _Rounding(Code):
    def top(self, numbers: Any) -> Any:
        tops = []
        for i in range(BLOCK // LANES):
            tops.append(self.call("llvm.fabs.v16f32", FLOATS, self.load_floats(self.offset(numbers, i, 4 * LANES), 32)))
        both = self.call("llvm.maxnum.v16f32", FLOATS, *tops)
        return self.call("llvm.vector.reduce.fmax.v16f32", FLOAT, both)

    def round(self, numbers: Any, top: Any, zero: Any, inputs: Any, factors: Any) -> None:
        b, most = self.builder, ir.Constant(FLOAT, 127.0)
        some = b.fcmp_ordered(">", top, ir.Constant(FLOAT, 0.0))
        scale, inverse = b.fdiv(top, most), b.select(some, b.fdiv(most, top), ir.Constant(FLOAT, 0.0))
        total = self.zeros(INTS)
        for i in range(BLOCK // LANES):
            at = self.offset(numbers, i, 4 * LANES)
            x = self.load_floats(at, 32)
            rounded = self.call("llvm.rint.v16f32", FLOATS, b.fmul(x, self.fill(inverse)))
            self.store(self.multiply_add(b.fneg(rounded), self.fill(scale), x), at)
            integers = b.fptosi(rounded, INTS)
            self.store(b.trunc(integers, ir.VectorType(BYTE, LANES)), self.offset(inputs, i, LANES))
            total = b.add(total, integers)
        count = self.call("llvm.vector.reduce.add.v16i32", INT, total)
        product, sum_of_all = b.mul(count, b.neg(b.trunc(zero, INT))), b.fmul(b.sitofp(count, FLOAT), scale)
        addend = b.select(b.icmp_signed("!=", zero, LONG(0)), product, b.bitcast(sum_of_all, INT))
        self.store(scale, factors)
        self.store(addend, self.offset(factors, 1, FACTORS // 2))


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
                    products = self._dot(products, quad, four)
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
        quads, pairs = [], ir.VectorType(SHORT, 2 * TILE)
        mask, half = ir.Constant(BYTES, [15] * 4 * TILE), ir.Constant(pairs, [4] * 2 * TILE)
        for i in range(QUADS // 2):
            both = self.load(self.offset(at, i, 4 * TILE), BYTES)
            high = b.bitcast(b.lshr(b.bitcast(both, pairs), half), BYTES)
            quads += [b.and_(both, mask), b.and_(high, mask)]
        return quads

    def _dot(self, sums: Any, unsigned: Any, signed: Any) -> Any:
        """`sums` plus the products of four bytes each."""
        b = self.builder
        if self.products == "avx2":
            return self._dot_avx2(sums, unsigned, signed)
        if self.products == "avx512vnni":
            return self.call("llvm.x86.avx512.vpdpbusd.512", INTS, sums, unsigned, signed)
        # The same in steps that most processors have instructions for: products of 16-bit numbers, summed by twos.
        wide, ints = (b.zext(unsigned, SHORTS), b.sext(signed, SHORTS)), ir.VectorType(INT, 2 * TILE)
        twos = [[b.sext(self._every_second(x, i), ints) for x in wide] for i in range(2)]
        pairs = b.add(*(b.mul(*two) for two in twos))
        return b.add(sums, b.add(*(self._every_second(pairs, i) for i in range(2))))

    def _dot_avx2(self, sums: Any, unsigned: Any, signed: Any) -> Any:
        """Two products of bytes are summed in 16 bits: no more than 4 bits of the one, or they overflow."""
        b, mask = self.builder, ir.Constant(BYTES, [15] * 4 * TILE)
        if self.scheme.bits == 4:
            return b.add(sums, self._small_products(unsigned, signed))
        pairs = ir.VectorType(SHORT, 2 * TILE)
        high = b.bitcast(b.lshr(b.bitcast(unsigned, pairs), ir.Constant(pairs, [4] * 2 * TILE)), BYTES)
        sixteenths = self._small_products(b.and_(high, mask), signed)
        low = b.add(sums, self._small_products(b.and_(unsigned, mask), signed))
        return b.add(low, b.shl(sixteenths, ir.Constant(INTS, [4] * TILE)))

    def _small_products(self, unsigned: Any, signed: Any) -> Any:
        words, ints, empty = ir.VectorType(SHORT, 16), ir.VectorType(INT, 8), ir.Constant(BYTES, ir.Undefined)
        ones, sums = ir.Constant(words, [1] * 16), []
        for first in (0, 32):
            places = ir.Constant(ir.VectorType(INT, 32), list(range(first, first + 32)))
            parts = [self.builder.shuffle_vector(vector, empty, places) for vector in (unsigned, signed)]
            twos = self.call("llvm.x86.avx2.pmadd.ub.sw", words, *parts)
            sums.append(self.call("llvm.x86.avx2.pmadd.wd", ints, twos, ones))
        return self.builder.shuffle_vector(*sums, ir.Constant(INTS, list(range(TILE))))

    def _every_second(self, vector: Any, first: int) -> Any:
        count = vector.type.count
        places = ir.Constant(ir.VectorType(INT, count // 2), list(range(first, count, 2)))
        return self.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), places)
