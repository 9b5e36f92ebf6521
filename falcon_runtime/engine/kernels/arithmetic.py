"""What numba lacks: floats of 16 bits, and a power of 2 that LLVM makes vectors of."""

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


@njit(fastmath=True)
def exp2(x: Any) -> Any:
    """2**x for x <= 0."""
    x = max(x, F(-120))
    whole = np.rint(x)
    r = F(x - whole)
    fraction = F(1) + r * (T1 + r * (T2 + r * (T3 + r * (T4 + r * (T5 + r * T6)))))
    return fraction * _as_float(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))
