"""What instructions a processor has, and which of them the kernels use."""

import os
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

from ..errors import UnsupportedProcessor
from .machine import proc_value

VARIABLE = "FALCON_ISA"
"""Environment variable with the name of the set to use; the best one otherwise."""


@dataclass(frozen=True)
class InstructionSet:
    name: str
    title: str
    needs: tuple[str, ...]
    """LLVM's names of the processor's features that it takes."""
    lanes: int
    """Numbers of 32 bits in a register."""
    registers: int
    products: int = 4
    """Of bytes with bytes, that an instruction adds to each of these numbers."""


def _set(name: str, title: str, needs: str, lanes: int, registers: int, products: int = 4) -> InstructionSet:
    return InstructionSet(name, title, tuple(needs.split()), lanes, registers, products)


INSTRUCTION_SETS = (
    _set("avx512vnni", "AVX-512 VNNI", "avx512f avx512bw avx512vl avx512vnni avx2 fma f16c", 16, 32),
    _set("avx512", "AVX-512", "avx512f avx512bw avx512vl avx2 fma f16c", 16, 32),
    _set("avxvnni", "AVX-VNNI", "avxvnni avx2 fma f16c", 8, 16),
    _set("avx2", "AVX2", "avx2 fma f16c", 8, 16),
    _set("i8mm", "ARM matrix products", "neon dotprod i8mm", 4, 32, products=8),
    _set("dotprod", "ARM dot product", "neon dotprod", 4, 32),
    _set("any", "what LLVM finds best", "", 4, 16),
)
"""The better ones first. What has the features of one runs those after it too, where it has theirs."""
UNSEEN = {"asimddp": "dotprod", "asimdhp": "fullfp16", "i8mm": "i8mm"}
"""Features of ARM processors that LLVM does not look for: Linux's names of them, and LLVM's."""
WIDE = ("avx512", "avx10", "amx")
"""How features begin that come with registers of 512 bits, or more."""


@cache
def processor() -> tuple[str, str, str]:
    """This one: triple, name and features as LLVM calls them, such as "+avx2,-avx512f"."""
    triple, name, features = seen_by_llvm()
    if triple.startswith("aarch64"):
        there = (proc_value("cpuinfo", "Features") or "").split()
        found = [f"+{feature}" for linux, feature in UNSEEN.items() if linux in there]
        features = ",".join([*filter(None, [features]), *found])
    return triple, name, features


@cache
def seen_by_llvm() -> tuple[str, str, str]:
    """This processor as LLVM, and so numba, takes it to be."""
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM does not know them on this system.
        features = ""
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), features


def available() -> list[InstructionSet]:
    """All that this processor has, the best one first."""
    there = {feature[1:] for feature in processor()[2].split(",") if feature.startswith("+")}
    return [one for one in INSTRUCTION_SETS if there.issuperset(one.needs)]


def chosen() -> InstructionSet:
    """The one to use. Errors: UnsupportedProcessor if the variable asks for one that is not there."""
    names = {one.name: one for one in available()}
    name = os.environ.get(VARIABLE) or next(iter(names))
    if name not in names:
        known = "this processor does not have" if name in {one.name for one in INSTRUCTION_SETS} else "is unknown"
        raise UnsupportedProcessor(
            f"{VARIABLE} asks for the instruction set {name!r}, which {known}. It has {', '.join(names)}: set one of "
            "these, or none for the best."
        )
    return names[name]


def target() -> tuple[str, str, str]:
    """What to compile for: this processor, without the features that `chosen` leaves unused."""
    triple, name, features = processor()
    best, used = available()[0], chosen()
    if used == best or not used.needs:
        return triple, name, features
    beyond = set(best.needs).difference(used.needs)
    kept = [
        feature
        for feature in features.split(",")
        if not feature.startswith("+")
        or feature[1:] in used.needs
        or not (feature[1:] in beyond or (used.lanes < 16 and feature[1:].startswith(WIDE)))
    ]
    return triple, "generic", ",".join(kept)
