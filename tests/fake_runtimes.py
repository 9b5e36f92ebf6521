"""Runtimes that load nothing, and the machine that they do it on."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from falcon_runtime.errors import ModelDamaged
from falcon_runtime.status import Status

GB = 1_000_000_000


class World:
    """A machine with `memory` bytes and fake runtimes, each of which takes `sizes` of its name when it is loaded, but
    for what is `unfilled` of its KV caches."""

    def __init__(self) -> None:
        self.memory = 100 * GB
        self.sizes = defaultdict[str, int](lambda: GB)
        self.unfilled = defaultdict[str, int](int)
        self.provisioned = defaultdict[str, threading.Event](threading.Event)
        """Set for models whose files are there."""
        self.broken: set[str] = set()
        self.runtimes: list[FakeRuntime] = []
        self.log: list[str] = []

    def available(self) -> int:
        return self.memory - sum(runtime.resident_bytes for runtime in self.runtimes)


class FakeTimer:
    """A timer that goes off when the test says so."""

    def __init__(self, seconds: float, function: Callable[[], None]):
        self.seconds, self.go_off = seconds, function
        self.state = "made"

    def start(self) -> None:
        self.state = "started"

    def cancel(self) -> None:
        self.state = "cancelled"


class FakeRuntime:
    def __init__(self, world: World, model: str, models_dir: Path, backend: str, threads: int | None, *_: object):
        self.world, self.name, self.title = world, model, model.upper()
        self.memory_bytes, self.status, self.closed = world.sizes[model], Status(), False
        self.loading = threading.Lock()
        world.runtimes.append(self)

    @property
    def resident_bytes(self) -> int:
        return self.memory_bytes - self.world.unfilled[self.name] if self.status.state == "ready" else 0

    def report(self, status: Status) -> None:
        self.status = status

    def provision(self, on_status: Callable[[Status], None] | None = None) -> None:
        if not self.world.provisioned[self.name].is_set():
            self.status = Status("downloading")
            if on_status:
                on_status(self.status)
            self.world.provisioned[self.name].wait()

    def decode(self, tokens: Sequence[int]) -> str:
        return f"{self.name}{list(tokens)}"

    def load(self, on_status: Callable[[Status], None] | None = None) -> None:
        with self.loading:
            if self.status.state == "ready":
                return
            self.provision(on_status)
            if self.name in self.world.broken:
                self.status = Status("failed", "It is broken.")
                raise ModelDamaged("It is broken.")
            self.status = Status("ready")
            self.world.log.append(f"load {self.name}")

    def close(self) -> None:
        if not self.closed:
            self.world.log.append(f"close {self.name}")
            self.closed = True
            self.status = Status("idle") if self.status.state == "ready" else self.status
