"""What this machine, or the container that this process runs in, has to give."""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
"""A container's own control group: of version 2, or of version 1, which has a folder for each controller."""
BANDWIDTH_BYTES, BANDWIDTH_S = 128_000_000, 0.1
"""How much memory is read to measure how fast it is, more than caches hold, and for how long that is repeated. The page
waits for it: to get this much from its host may take a virtual machine a quarter of a second."""


def machine_memory() -> int:
    """Bytes of memory that this process can have at most: a container's limit where there is one, not the host's."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _memory_limit()
    return memory if limit is None else min(memory, limit)


def available_memory() -> int:
    """Bytes of memory that can be taken now: what the system can give, no more than a container's limit leaves."""
    memory = proc_bytes("meminfo", "MemAvailable") or machine_memory()
    limit = _memory_limit()
    return memory if limit is None else max(0, min(memory, limit - _memory_used()))


def _memory_limit() -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # There is no such file, or no limit: "max".
            return int((CGROUP / name).read_text())
    return None


def _memory_used() -> int:
    """Bytes that a container uses. Files that were read would count too, though the system drops them as soon as memory
    is wanted."""
    v2 = "memory.current", "memory.stat", "inactive_file"
    v1 = "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"
    for used, stat, files in (v2, v1):
        with suppress(OSError, ValueError):
            values = dict(line.split() for line in (CGROUP / stat).read_text().splitlines())
            return int((CGROUP / used).read_text()) - int(values.get(files, 0))
    return 0


def memory_bandwidth(threads: int | None = None) -> float:
    """Bytes that `threads` threads together (None: as many as an engine uses) read from memory in a second: the best of
    the passes in a tenth of a second, since other programs take their share at times."""
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
    quota, period = _cpu_quota()
    return cpus if quota <= 0 else max(1, min(cpus, round(quota / period)))


def _cpu_quota() -> tuple[int, int]:
    """Microseconds of CPU time that a container has in so many others; not above 0 where there is no limit."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        with suppress(OSError, ValueError):  # There is no such file, or no limit: "max".
            quota, period = " ".join((CGROUP / name).read_text() for name in names).split()
            return int(quota), int(period)
    return 0, 1


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


def proc_bytes(file: str, key: str) -> int | None:
    """The same for a size: "9548 kB"."""
    value = proc_value(file, key)
    return int(value.split()[0]) * 1024 if value else None
