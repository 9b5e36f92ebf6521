"""What this machine can do at best: how fast it reads memory, and how fast it multiplies bytes.

Decode reads all weights for each token, and prefill multiplies each with every token (Williams et al., 2009,
"Roofline"): the shares of these two rates that a model reaches tell how close its kernels are to the metal.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from ..models.manifest import Manifest
from ..models.recipes import FP32
from ..system.child import Child, connect
from ..system.instruction_sets import chosen
from .kernels import compiled

READ_BYTES = 256 << 20
"""By all threads together; far more than a cache holds."""
MULTIPLIED = 2_000_000
"""Times that each thread multiplies the bytes of `VECTORS` registers."""
VECTORS = 8
"""Registers that are worked on at a time: enough that none is waited for, and they fit all processors."""
TRIES = 7


@dataclass(frozen=True)
class Ceilings:
    """The best of some tries, on all threads together."""

    read_bytes_per_second: float
    products_per_second: float
    """Of one byte with another."""

    def or_better(self, other: "Ceilings") -> "Ceilings":
        return Ceilings(*map(max, astuple(self), astuple(other)))


class Reached(NamedTuple):
    """How much of the ceilings a model reaches."""

    best: Ceilings
    """The ceilings, no lower than what the model reached: what a virtual machine can do changes by the minute."""
    decode: float
    """Of the memory's speed, where one token is computed."""
    prefill: float | None
    """Of the products, where many are; None where weights are floats."""


def reached(manifest: Manifest, forwards: Mapping[int, float], measured: Ceilings) -> Reached:
    """By the seconds of forwards with all their logits, as `FalconRuntime.forwards` has them."""
    shape, rows = manifest.shape, max(forwards)
    read = manifest.bytes_read(manifest.context // 4) / forwards[1]
    floats = str(FP32) in manifest.schemes
    products = 0 if floats else rows * (shape.products + shape.hidden * shape.vocabulary) / forwards[rows]
    best = measured.or_better(Ceilings(read, products))
    prefill = None if floats else products / best.products_per_second
    return Reached(best, read / best.read_bytes_per_second, prefill)


_measuring = threading.Lock()


def known(threads: int) -> Ceilings:
    """`measure` in a process of its own, whose memory is free afterwards, at the first call. Errors: EOFError where it
    did not come to an end."""
    with _measuring:
        return _measured_apart(threads)


@cache
def _measured_apart(threads: int) -> Ceilings:
    child = Child(__name__, str(threads))
    try:
        return Ceilings(*child.connection.recv())
    finally:
        child.kill()


def measure(threads: int) -> Ceilings:
    """Takes about a second."""
    isa = chosen()
    functions = compiled.addresses(f"{compiled.__package__}.ceiling:ceilings", isa, VECTORS)
    kind = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 3)
    read, multiply = kind(functions["read"]), kind(functions["multiply"])
    group = 4 * isa.lanes * VECTORS
    memory = np.ones((threads, READ_BYTES // threads // group * group), np.uint8)
    with ThreadPoolExecutor(threads) as pool:

        def best(run: Callable[[int], object]) -> float:
            """Seconds that it takes all threads."""
            times = []
            for _ in range(TRIES):
                began = time.perf_counter()
                list(pool.map(run, range(threads)))
                times.append(time.perf_counter() - began)
            return min(times)

        reading = best(lambda i: read(memory[i].ctypes.data, memory.shape[1] // group))
        multiplying = best(lambda i: multiply(memory[i].ctypes.data, MULTIPLIED))
    products = threads * MULTIPLIED * VECTORS * isa.lanes * isa.products
    return Ceilings(memory.size / reading, products / multiplying)


if __name__ == "__main__":
    connect(sys.argv[1]).send(astuple(measure(int(sys.argv[2]))))
