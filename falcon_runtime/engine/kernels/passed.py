"""What ExecuTorch passes to a kernel, and its thread pool, for compiled code, where addresses are int64."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from .abi import DATA, FAILURE, FLAG_DISABLE_DENORMALS, INVALID_ARGUMENT, NUMEL, SIZES, STRIDES, TYPE

ROW_SIGNATURE = types.void(types.int64, types.int64)
"""(workspace, row), as the thread pool calls it."""
UNIT_SIGNATURE = types.void(types.int64, types.int64, types.int64)
"""(workspace, thread, unit), as the thread pool calls it."""
KERNEL_SIGNATURE = types.void(types.int64, types.int64, types.int64, types.int64)
"""(workspace, context, arguments, count), as `workspace.bind` calls it."""


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
