"""Whether ExecuTorch's binary interface is the one that abi.py describes, before a kernel relies on it.

A tiny program calls one operator. Its kernel is Python and reads what it is passed as the compiled ones do, but through
the system, which refuses a wrong address where a processor would end the process. It writes only if all is as expected.
"""

import ctypes
import math
import os
import struct
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UnsupportedExecuTorch
from . import abi

TESTED = ("1.5.1",)
"""The releases with which abi.py was tried."""
OPERATOR = "abi_check"
PROGRAM = Path(__file__).with_suffix(".pte")
"""One call of the operator with what its input is, `NUMBER` and true. convert/abi_check.py makes it."""
SHAPE, ROOM, NUMBER, ROWS = (1, 3, 8), (1, 4, 8), 0.15625, 2
"""Of the input; of the most that the program takes and returns; the other argument; and how many rows of twice the
input the kernel returns."""
_C_FUNCTION = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)


class _Unexpected(Exception):
    pass


def check(load: Callable[[str], Any]) -> None:
    """`load` loads a program and gives its `Module`. Errors: UnsupportedExecuTorch."""
    if (found := version("executorch")) not in TESTED:
        raise UnsupportedExecuTorch(
            f"ExecuTorch {found} is installed, but the kernels are tested with {' and '.join(TESTED)} only. {_remedy()}"
        )
    if problem := _problem(load):
        raise UnsupportedExecuTorch(
            f"This build of ExecuTorch {found} calls kernels in another way than the one that was tested: {problem}. "
            f"{_remedy()}"
        )


def _remedy() -> str:
    return f"Install the tested one: pip install executorch=={TESTED[-1]}"


def _problem(load: Callable[[str], Any]) -> str:
    """What is not as expected; empty if all is."""
    try:
        seen, _ = _registered()
        seen[:] = ["the kernel is not called"]
        x = np.arange(math.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
        module = load(str(PROGRAM))
        result = module.forward([x])
    except (AttributeError, AssertionError, RuntimeError, OSError) as error:
        return str(error)
    if not seen and not np.array_equal(result, 2 * x[:, :ROWS]):
        seen.append("the result does not arrive")
    return "; ".join(seen)


@cache
def _registered() -> tuple[list[str], Any]:
    """Registers the kernel. Returns what it has to say of its latest call, and the kernel, which has to live."""
    seen: list[str] = []

    @_C_FUNCTION
    def kernel(context: int, arguments: int, count: int) -> None:
        try:
            seen[:] = []
            _kernel(context, arguments, count)
        except (_Unexpected, OSError) as problem:
            seen.append(str(problem))

    abi.register(OPERATOR, ctypes.cast(kernel, ctypes.c_void_p).value or 0)
    return seen, kernel


def _kernel(context: int, arguments: int, count: int) -> None:
    """Reads the arguments x, number, true and the result, twice; returns the first `ROWS` rows of 2 x."""
    _expect("arguments", count, 5)
    x, number, flag, out, again = _read(arguments, "5q")
    _expect("the float", _read(number, "d"), (NUMBER,))
    _expect("the bool", _read(flag, "?"), (True,))
    _expect("the result", out, again)
    _expect("the error", _read(context + abi.FAILURE, "i"), (0,))
    tensors = _read(x, "q")[0], _read(out, "q")[0]
    for impl, shape in zip(tensors, (SHAPE, ROOM), strict=True):
        _expect("the count of numbers", _read(impl + abi.NUMEL, "q"), (math.prod(shape),))
        _expect("their type", _read(impl + abi.TYPE, "b"), (abi.FLOAT,))
        _expect("the sizes", _read(_read(impl + abi.SIZES, "q")[0], "3i"), shape)
        _expect("the strides", _read(_read(impl + abi.STRIDES, "q")[0], "3i"), (math.prod(shape), shape[2], 1))
    numbers, results = (_read(impl + abi.DATA, "q")[0] for impl in tensors)
    _expect("the numbers", _read(numbers, f"{math.prod(SHAPE)}f"), tuple(range(math.prod(SHAPE))))
    twice = [2.0 * i for i in range(ROWS * SHAPE[2])]
    ctypes.memmove(results, struct.pack(f"{len(twice)}f", *twice), 4 * len(twice))
    _resize(tensors[1], ROWS)


def _resize(impl: int, rows: int) -> None:
    """As abi.set_rows."""
    count = rows * SHAPE[2]
    ctypes.c_int32.from_address(_read(impl + abi.SIZES, "q")[0] + 4).value = rows
    ctypes.c_int32.from_address(_read(impl + abi.STRIDES, "q")[0]).value = count
    ctypes.c_int64.from_address(impl + abi.NUMEL).value = count


def _read(address: int, form: str) -> tuple[Any, ...]:
    """What lies at an address, in a form of `struct`'s. Errors: OSError where nothing does."""
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        return struct.unpack(form, os.pread(memory.fileno(), struct.calcsize(form), address))


def _expect(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise _Unexpected(f"{what}: {found} instead of {expected}")
