"""What this machine can do at best: how fast it reads memory, and how fast it multiplies bytes.

Decode reads all weights for each token, and prefill multiplies each with every token (Williams et al., 2009,
"Roofline"): the shares of these two rates that a model reaches tell how close its kernels are to the metal.
"""

import ctypes
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

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
    return Ceilings(memory.size / reading, threads * MULTIPLIED * group / multiplying)
