"""Workspaces: records of what the parts of a kernel tell each other, and of the memory that they work in.

Compiled kernels get the address of their workspace as an argument, so that they hold no addresses themselves: they are
re-entrant, and can be kept for the next start. ExecuTorch passes no such argument; `bind` adds it.
"""

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from . import machine_code

ADDRESS = np.int64


class Workspace:
    """One record with these fields, addresses (`ADDRESS`) and numbers. Kernels read and write it where it lies."""

    def __init__(self, layout: np.dtype[Any]):
        self._record = np.zeros(1, layout)
        self._arrays: dict[str, NDArray[Any]] = {}
        """The memory, which lives as long as the workspace."""

    @property
    def address(self) -> int:
        return self._record.ctypes.data

    def set(self, **values: int) -> None:
        for field, value in values.items():
            self._record[field] = value

    def get(self, field: str) -> int:
        return int(self._record[field][0])

    def allocate(self, field: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
        """Makes `field` the address of zeros of this shape and type, and returns these."""
        array = self._arrays[field] = np.zeros(shape, kind)
        self._record[field] = array.ctypes.data
        return array

    def array(self, field: str) -> NDArray[Any]:
        """What was allocated for `field`."""
        return self._arrays[field]


def bind(kernel: int, workspace: int) -> int:
    """Address of a C function void(context, arguments, count) that calls the one at the address `kernel` with
    `workspace` before these."""
    word = ir.IntType(64)
    module = ir.Module()
    module.triple = llvm.get_default_triple()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * 3), "bound")
    builder = ir.IRBuilder(function.append_basic_block())
    target = builder.inttoptr(word(kernel), ir.FunctionType(ir.VoidType(), [word] * 4).as_pointer())
    builder.call(target, [word(workspace), *function.args])
    builder.ret_void()
    return machine_code.address(machine_code.engine(str(module)), "bound")
