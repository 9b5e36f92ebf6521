"""LLVM's machine code in this process, without numba, whose import takes as long as all the rest of a start."""

import ctypes
from functools import cache
from typing import Any

import llvmlite.binding as llvm

NUMBAS = (
    "NRT_Free",
    "NRT_MemInfo_call_dtor",
    "numba_do_raise",
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_runtime_build_excinfo_struct",
    "numba_unpickle",
)

_alive: list[Any] = []
"""The engines whose code is in use."""


def engine(assembly: str = "") -> Any:
    """An engine with the code of a module, to which object files can be added."""
    _initialize()
    target = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(assembly), target)


def address(engine: Any, name: str) -> int:
    """Of a C function of an engine, whose code stays from now on."""
    engine.finalize_object()
    _alive.append(engine)
    return int(engine.get_function_address(name))


@cache
def _initialize() -> None:
    """Also gives what numba compiled the functions of numba's that it names. None is called: they raise exceptions and
    end the life of arrays, and kernels do neither. Without them, LLVM would give the code no function at all, `memset`
    neither. Numba gives its own when it first compiles, not yet when it is imported."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in NUMBAS:
        if llvm.address_of_symbol(name) is None:
            llvm.add_symbol(name, ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value or 0)
