"""What instructions a processor has."""

from functools import cache
from typing import Literal, get_args

import llvmlite.binding as llvm

Products = Literal["avx512vnni", "avx2", "any"]
"""How bytes are multiplied, by instructions of the processor's or as LLVM finds best; each includes those after it."""


@cache
def processor() -> tuple[str, str, str]:
    """This one as LLVM has it, and numba compiles for it: triple, name and features, such as "+avx2,-avx512f"."""
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM does not know them on this system.
        features = ""
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), features


def best_products() -> Products:
    """Of this processor."""
    there = processor()[2].split(",")
    return "avx512vnni" if "+avx512vnni" in there else "avx2" if "+avx2" in there else "any"


def available_products() -> list[Products]:
    """All that this processor can do, the best one first."""
    every: tuple[Products, ...] = get_args(Products)
    return list(every[every.index(best_products()) :])
