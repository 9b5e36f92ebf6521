"""What the engine's kernels are made with. They are written in Python, compiled by numba for this very processor when
the engine starts, and called by ExecuTorch like any other kernel; they work on its thread pool.

Two things are ExecuTorch's own and pinned with its version: the layout in memory of a kernel's arguments
(runtime/core/evalue.h, runtime/core/portable_type/tensor_impl.h) and the names of a few functions.
"""

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import Any

import executorch
import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

MAX_THREADS = 128
MAX_ROWS = 256
"""As many as a batch has, graph.MAX_TOKENS."""
POOL = np.zeros(1, np.int64)
"""Address of ExecuTorch's thread pool, which is another one after its size was set."""
# Offsets of TensorImpl's members, and of KernelRuntimeContext's.
SIZES, STRIDES, DATA, NUMEL, TYPE = 0, 16, 24, 40, 56
FAILURE, INVALID_ARGUMENT = 16, 0x12
F = np.float32
LOG2 = math.log(2)
# Of 2**x around 0, Taylor's: off by less than a float32 can tell for |x| <= 1/2.
T1, T2, T3, T4, T5, T6 = (np.float32(LOG2**k / math.factorial(k)) for k in range(1, 7))


class _Kernel(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("key", ctypes.c_void_p), ("function", ctypes.c_void_p)]


_registered: list[Any] = []
"""What must live as long as the process."""


def use_pool() -> None:
    """Lets the kernels use ExecuTorch's thread pool as it is now, of at most MAX_THREADS threads."""
    pool = _library("libexecutorch_threadpool")._ZN10executorch9extension10threadpool15get_pthreadpoolEv
    pool.restype = ctypes.c_size_t
    POOL[0] = pool()


@cache
def parallelize() -> tuple[Any, Any]:
    """The pool's functions `run(pool, function, argument, count, flags)`, which calls function(argument, i) for each i
    below `count`, and the same with function(argument, thread, i)."""
    library, word = _library("libexecutorch_threadpool"), ctypes.c_size_t
    functions = library.pthreadpool_parallelize_1d, library.pthreadpool_parallelize_1d_with_thread
    for function in functions:
        function.restype, function.argtypes = None, [word, word, word, word, ctypes.c_uint32]
    return functions


def register(operator: str, function: Any) -> None:
    """Makes a C function (context, arguments, their count) known to ExecuTorch as the operator `falcon::<operator>`."""
    entry = _Kernel(f"falcon::{operator}.out".encode(), None, function.address)
    runtime = _library("libexecutorch")
    error = runtime._ZN10executorch7runtime16register_kernelsENS0_4SpanIKNS0_6KernelEEE(
        ctypes.byref(entry), ctypes.c_size_t(1)
    )
    assert error == 0, f"ExecuTorch refuses the kernel: error {error}"
    _registered.append((entry, function))


@cache
def _library(name: str) -> ctypes.CDLL:
    (folder,) = executorch.__path__
    return ctypes.CDLL(str(Path(folder) / "lib" / f"{name}.so"))


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


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


@intrinsic
def call_address(typing: Any, address: Any, context: Any, arguments: Any) -> Any:
    def code(compiler: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [word, word]).as_pointer()
        builder.call(builder.inttoptr(args[0], function), args[1:])
        return compiler.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


@njit
def word_at(address: Any) -> Any:
    return carray(pointer(address), 1, np.int64)[0]


@njit
def tensor_at(arguments: Any, index: Any) -> Any:
    """Address of an argument's TensorImpl."""
    return word_at(word_at(arguments + 8 * index))


@njit
def size_of(impl: Any, dimension: Any) -> Any:
    return np.int64(carray(pointer(word_at(impl + SIZES)), 8, np.int32)[dimension])


@njit(fastmath=True)
def exp2(x: Any) -> Any:
    """2**x for x <= 0."""
    x = max(x, F(-120))
    whole = np.rint(x)
    r = F(x - whole)
    fraction = F(1) + r * (T1 + r * (T2 + r * (T3 + r * (T4 + r * (T5 + r * T6)))))
    return fraction * _as_float(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))


@njit
def data_of(impl: Any) -> Any:
    """Address of a tensor's numbers."""
    return word_at(impl + DATA)


@njit
def type_of(impl: Any) -> Any:
    """A tensor's ScalarType."""
    return carray(pointer(impl + TYPE), 1, np.int8)[0]


@njit
def set_rows(impl: Any, rows: Any) -> None:
    """Makes the tensor [1, N, size] one of [1, rows, size]."""
    size = size_of(impl, 2)
    carray(pointer(word_at(impl + SIZES)), 3, np.int32)[1] = rows
    carray(pointer(word_at(impl + STRIDES)), 3, np.int32)[0] = rows * size
    carray(pointer(impl + NUMEL), 1, np.int64)[0] = rows * size


@njit
def fail(context: Any) -> None:
    """Ends ExecuTorch's forward with an error."""
    carray(pointer(context + FAILURE), 1, np.int32)[0] = INVALID_ARGUMENT
