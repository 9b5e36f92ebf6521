"""What numba lacks: floats of 16 bits, and what LLVM makes vectors of: extremes, a choice, and a power of 2."""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

F = np.float32
LOG2 = math.log(2)
# Taylor's series of 2**x around 0: off by less than a float32 can tell for |x| <= 1/2.
T1, T2, T3, T4, T5, T6 = (np.float32(LOG2**k / math.factorial(k)) for k in range(1, 7))

LOWEST = F(-120)


@intrinsic
def from_half(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), code


@intrinsic
def to_half(typing: Any, number: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), code


@intrinsic
def _as_float(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), code


def _make_extreme(name: str) -> Any:
    @intrinsic
    def extreme(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 2)
            function = builder.module.declare_intrinsic(name, fnty=kind)
            return builder.call(function, args, fastmath=("nnan", "nsz"))

        return types.float32(types.float32, types.float32), code

    return extreme


# For numbers, not NaN. LLVM makes no vectors of a loop that looks for an extreme with numba's `max` or `min`, and not
# always of one with a conditional expression.
higher, lower = _make_extreme("llvm.maxnum.f32"), _make_extreme("llvm.minnum.f32")


@intrinsic
def select(typing: Any, condition: Any, a: Any, b: Any) -> Any:
    """`a` if `condition`, else `b`: float32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return types.float32(types.boolean, types.float32, types.float32), code


@njit
def below(x: Any) -> Any:
    """The next lower number: numba's `np.nextafter` calls a function of numba's own, which is not there at a start."""
    if x == 0:
        return F(-1e-45)
    return _as_float(np.int32(np.float32(x).view(np.int32) + np.int32(1 if x < 0 else -1)))


@njit(fastmath=True)
def exp2(x: Any) -> Any:
    """2**x for x <= 0; what is below `LOWEST` counts as it."""
    x = higher(x, LOWEST)
    whole = np.rint(x)
    r = F(x - whole)
    fraction = F(1) + r * (T1 + r * (T2 + r * (T3 + r * (T4 + r * (T5 + r * T6)))))
    return fraction * _as_float(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))
