"""Quantization of a block of inputs to 8 bits, with a scale of its own."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...models.recipes import BLOCK, SHIFTS
from .linear_workspace import FACTORS
from .vectors import BYTE, FLOAT, FLOATS, INT, INTS, LANES, LONG, Code

MANTISSA, EXPONENT_OF_1 = 23, 127
"""Where a float32 has its exponent, and that of 1."""
MOST = 127
"""The largest integer that inputs are rounded to."""


@intrinsic
def top_of(typing: Any, numbers: Any) -> Any:
    """The largest magnitude of a block of 32 float32, given its address."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _Rounding(builder).top(*args)

    return types.float32(types.int64), code


@intrinsic
def rounding(
    typing: Any, numbers: Any, top: Any, scale: Any, inverse: Any, zero: Any, inputs: Any, factors: Any
) -> Any:
    """Rounds a block of 32 float32, the largest magnitude of which is `top`, to `inputs` and `factors` for weights of a
    scheme with this `zero`, and leaves in the block what that is off by. Its scale is the smallest that suffices of
    those that its group may have, the largest of which is `scale`, and 1 / `scale` is `inverse`. `numbers`, `inputs`
    and `factors` are addresses."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _Rounding(builder).round(*args)
        return context.get_dummy_value()

    address, number = types.int64, types.float32
    return types.void(address, number, number, number, types.int64, address, address), code


class _Rounding(Code):
    def top(self, numbers: Any) -> Any:
        tops = []
        for i in range(BLOCK // LANES):
            tops.append(self.call("llvm.fabs.v16f32", FLOATS, self.load_floats(self.offset(numbers, i, 4 * LANES), 32)))
        both = self.call("llvm.maxnum.v16f32", FLOATS, *tops)
        return self.call("llvm.vector.reduce.fmax.v16f32", FLOAT, both)

    def round(self, numbers: Any, top: Any, scale: Any, inverse: Any, zero: Any, inputs: Any, factors: Any) -> None:
        b, shift = self.builder, self.shift(self.builder.fmul(top, inverse))
        above = b.sub(INT(SHIFTS), shift)
        scale, inverse = b.fmul(scale, self.power(b.neg(shift))), b.fmul(inverse, self.power(shift))
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
        product, sum_of_all = b.mul(count, b.neg(b.trunc(zero, INT))), b.fmul(b.sitofp(count, FLOAT), self.power(above))
        addend = b.select(b.icmp_signed("!=", zero, LONG(0)), product, b.bitcast(sum_of_all, INT))
        self.store(b.shl(above, INT(MANTISSA)), factors)
        self.store(addend, self.offset(factors, 1, FACTORS // 2))

    def shift(self, most: Any) -> Any:
        """How often a number up to MOST can be doubled so that it still is no larger, but for rounding: an int32 up to
        SHIFTS."""
        b = self.builder
        # Up to 128, all that have the same exponent; MOST itself, whatever its last bits, has the largest, 6.
        nearly = b.fmul(most, ir.Constant(FLOAT, 127.99 / MOST))
        exponent = b.lshr(b.bitcast(nearly, INT), INT(MANTISSA))
        shift = b.sub(INT(EXPONENT_OF_1 + 6), exponent)
        return b.select(b.icmp_unsigned("<", shift, INT(SHIFTS)), shift, INT(SHIFTS))

    def power(self, exponent: Any) -> Any:
        """2**exponent."""
        b = self.builder
        return b.bitcast(b.shl(b.add(exponent, INT(EXPONENT_OF_1)), INT(MANTISSA)), FLOAT)
