"""What this machine, or the container that this process runs in, has to give."""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

PROC = Path("/proc")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""A container's, with `memory.current` and `memory.stat` beside it."""
BANDWIDTH_BYTES, BANDWIDTH_S = 256_000_000, 0.25
"""How much memory is read to measure how fast it is, more than caches hold, and for how long that is repeated."""


def machine_memory() -> int:
    """Bytes of memory that this process can have at most: a container's limit where there is one, not the host's."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(memory, int(MEMORY_LIMIT.read_text()))
    except (OSError, ValueError):  # There is no such file, or no limit: "max".
        return memory


def available_memory() -> int:
    """Bytes of memory that can be taken now: what the system can give, no more than a container's limit leaves."""
    available = proc_value("meminfo", "MemAvailable")  # "24061340 kB"
    memory = int(available.split()[0]) * 1024 if available else machine_memory()
    try:
        used = int(MEMORY_LIMIT.with_name("memory.current").read_text())
        stat = dict(line.split() for line in MEMORY_LIMIT.with_name("memory.stat").read_text().splitlines())
        # Files that were read count as used, though the system drops them as soon as memory is wanted.
        left = int(MEMORY_LIMIT.read_text()) - used + int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return memory
    return max(0, min(memory, left))


def memory_bandwidth(threads: int | None = None) -> float:
    """Bytes that `threads` threads together (None: as many as an engine uses) read from memory in a second: the best of
    the passes in a quarter of a second, since other programs take their share at times."""
    threads = threads or default_threads()
    # Looking for a maximum is the fastest that numpy does with numbers, and as fast as memory.
    parts = [np.ones(BANDWIDTH_BYTES // threads // 4, np.int32) for _ in range(threads)]
    passes: list[float] = []
    with ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        while not passes or time.perf_counter() - began < BANDWIDTH_S:
            start = time.perf_counter()
            list(pool.map(np.max, parts))
            passes.append(time.perf_counter() - start)
    return sum(part.nbytes for part in parts) / min(passes)


def default_threads() -> int:
    """The CPUs that this process may really use: a container's share, not the host's count."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, round(int(quota) / int(period))))


def cpu_name() -> str:
    return proc_value("cpuinfo", "model name") or platform.processor() or platform.machine()


def proc_value(file: str, key: str) -> str | None:
    """The value in the first line `key: value` of a file below /proc; None where there is no such file or line."""
    try:
        lines = (PROC / file).read_text().splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in pairs if name.strip() == key), None)
