"""ExecuTorch's binary interface: the one place that knows the names of its functions in the library, and the layout in
memory of what it passes to a kernel. docs/executorch.md says how to move to another release.

Sources: runtime/core/evalue.h, runtime/core/portable_type/tensor_impl.h, runtime/kernel/operator_registry.h and
runtime/kernel/kernel_runtime_context.h of ExecuTorch, and pthreadpool.h.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import executorch
import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

MAX_THREADS = 128
HALF, FLOAT = 5, 6
"""float16 and float32 as a ScalarType."""
# Offsets in a TensorImpl: of the addresses of its sizes and strides (int32 each) and of its numbers, of their count
# (int64) and of its ScalarType (int8).
SIZES, STRIDES, DATA, NUMEL, TYPE = 0, 16, 24, 40, 56
FAILURE, INVALID_ARGUMENT = 16, 0x12
"""Offset in a KernelRuntimeContext of the error (int32) that ends a forward, and the error that a kernel sets."""
REGISTER_KERNELS = "_ZN10executorch7runtime16register_kernelsENS0_4SpanIKNS0_6KernelEEE"
GET_THREAD_POOL = "_ZN10executorch9extension10threadpool15get_pthreadpoolEv"
FLAG_DISABLE_DENORMALS = 1
"""Of pthreadpool: numbers too small for float32's full precision count as zero, which is faster."""

_alive: list[Any] = []
"""What ExecuTorch points to, for as long as the process lives."""


class _Kernel(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("key", ctypes.c_void_p), ("function", ctypes.c_void_p)]


def register(operator: str, address: int) -> None:
    """Makes the C function at `address`, void(context, arguments, count), ExecuTorch's kernel of the operator
    `falcon::<operator>`. `arguments` is an array of `count` addresses of EValues, the last two of which are both the
    result."""
    entry = _Kernel(f"falcon::{operator}.out".encode(), None, address)
    error = _library("libexecutorch")[REGISTER_KERNELS](ctypes.byref(entry), ctypes.c_size_t(1))
    assert error == 0, f"ExecuTorch refuses the kernel of falcon::{operator}: error {error}"
    _alive.append(entry)


def thread_pool() -> int:
    """Address of ExecuTorch's thread pool. It is another one after its size was set."""
    get = _library("libexecutorch_threadpool")[GET_THREAD_POOL]
    get.restype = ctypes.c_size_t
    return int(get())


def address_of_parallelize(with_thread: bool) -> int:
    """Of the pool's function that calls task(argument, i) for each i below a count, or task(argument, thread, i)."""
    name = "pthreadpool_parallelize_1d" + "_with_thread" * with_thread
    return ctypes.cast(_library("libexecutorch_threadpool")[name], ctypes.c_void_p).value or 0


@cache
def _library(name: str) -> ctypes.CDLL:
    (folder,) = executorch.__path__
    return ctypes.CDLL(str(Path(folder) / "lib" / f"{name}.so"))


# What follows is for compiled code, where addresses are int64.


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


def _call(builder: Any, address: Any, arguments: Any) -> None:
    """Calls the C function at an address, which returns nothing."""
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments]).as_pointer()
    builder.call(builder.inttoptr(address, kind), arguments)


@intrinsic
def parallelize(typing: Any, function: Any, pool: Any, task: Any, argument: Any, count: Any) -> Any:
    """Calls the pool's function at the address `function`; returns when all calls of `task` have."""

    def code(compiler: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, args[0], [*args[1:], ir.IntType(32)(FLAG_DISABLE_DENORMALS)])
        return compiler.get_dummy_value()

    return types.void(*[types.int64] * 5), code


@intrinsic
def call_unit(typing: Any, task: Any, argument: Any, thread: Any, unit: Any) -> Any:
    """Calls the compiled function void(argument, thread, unit) at the address `task`, as the pool does."""

    def code(compiler: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, args[0], args[1:])
        return compiler.get_dummy_value()

    return types.void(*[types.int64] * 4), code


@intrinsic
def call_kernel(typing: Any, kernel: Any, workspace: Any, context: Any, arguments: Any, count: Any) -> Any:
    """Calls the compiled function void(workspace, context, arguments, count) at the address `kernel`."""

    def code(compiler: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, args[0], args[1:])
        return compiler.get_dummy_value()

    return types.void(*[types.int64] * 5), code


@njit
def word_at(address: Any) -> Any:
    return carray(pointer(address), 1, np.int64)[0]


@njit
def float_at(arguments: Any, index: Any) -> Any:
    """An argument that is a float, as float64."""
    return carray(pointer(word_at(arguments + 8 * index)), 1, np.float64)[0]


@njit
def bool_at(arguments: Any, index: Any) -> Any:
    return carray(pointer(word_at(arguments + 8 * index)), 1, np.uint8)[0] & 1


@njit
def tensor_at(arguments: Any, index: Any) -> Any:
    """Address of the TensorImpl of an argument."""
    return word_at(word_at(arguments + 8 * index))


@njit
def size_of(impl: Any, dimension: Any) -> Any:
    return np.int64(carray(pointer(word_at(impl + SIZES)), 8, np.int32)[dimension])


@njit
def data_of(impl: Any) -> Any:
    """Address of the numbers of a tensor."""
    return word_at(impl + DATA)


@njit
def type_of(impl: Any) -> Any:
    """The ScalarType of a tensor."""
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
    """Ends the forward with an error."""
    carray(pointer(context + FAILURE), 1, np.int32)[0] = INVALID_ARGUMENT
