"""What this machine, or the container that this process runs in, has to give."""

import os
import platform
from pathlib import Path

PROC = Path("/proc")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""A container's, with `memory.current` and `memory.stat` beside it."""


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
