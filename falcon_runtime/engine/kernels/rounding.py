"""Quantization of a block of inputs to 8 bits, with a scale of its own."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...models.recipes import BLOCK
from .linear_workspace import FACTORS
from .vectors import BYTE, FLOAT, FLOATS, INT, INTS, LANES, LONG, Code


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
