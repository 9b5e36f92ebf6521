"""The parent's side of the engine: starts the process, hands it requests, and turns its death into an error."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..errors import EngineDied, FalconError, ModelDamaged, RuntimeClosed
from ..sampling import SamplingParams
from ..system.child import Child
from .messages import Cancel, Compiling, Ready, Submit
from .request import Step

logger = logging.getLogger(__name__)

ENVIRONMENT = {
    # Attention calls BLAS from every thread of ExecuTorch's pool. Threads of BLAS's own on top of those fight for the
    # same cores: attention was five times slower with them, a whole decode step two and a half times.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Weights and KV caches in huge pages, for fewer misses in the TLB. And glibc should not give blocks of megabytes
    # back to the system when they are freed, to get them again page by page: that takes longer than what sampling
    # computes in them.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"
    f":glibc.malloc.mmap_threshold={16 << 20}:glibc.malloc.trim_threshold={32 << 20}",
}


class StepStream:
    """The steps of one request, in order; the last one has a finish reason. Errors: EngineDied.

    `close` may be called from any thread and does not wait: the engine drops the request before its next step.
    """

    def __init__(self, process: "EngineProcess", request: int):
        self._process, self._request = process, request
        self.inbox: SimpleQueue[Step | FalconError] = SimpleQueue()
        self._over = False

    def __iter__(self) -> "StepStream":
        return self

    def __next__(self) -> Step:
        if self._over:
            raise StopIteration
        item = self.inbox.get()
        if isinstance(item, FalconError):
            self._over = True
            raise item
        self._over = item.finish_reason is not None
        return item

    def close(self) -> None:
        if not self._over:
            self._process.send(Cancel(self._request))


class Engine:
    """One model's engine: a process that is started when it is needed, and again after it has died. Thread-safe."""

    def __init__(self, folder: Path, threads: int | None):
        self._folder, self._threads = folder, threads
        self._lock = threading.Lock()
        self._process: EngineProcess | None = None
        self._newest: EngineProcess | None = None
        """The process that was started last, be it ready or not."""
        self._closed = False
        self.restarted_at: float | None = None
        """`time.time()` when the process was last started again after one had ended; None if never."""

    @property
    def alive(self) -> bool:
        """Whether the process runs, its model loaded."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        """The process's id; None before the first start."""
        return self._process.pid if self._process else None

    def start(self, on_compiling: Callable[[], None] = lambda: None) -> None:
        """Starts the process unless it runs; `on_compiling` is called if the kernels have to be compiled for this
        processor first. Errors: what `read_manifest` and `Program` raise; RuntimeClosed."""
        with self._lock:
            self._running(on_compiling)

    def submit(self, tokens: Sequence[int], params: SamplingParams | None) -> StepStream:
        """Continues `tokens`, or scores them where `params` is None. Errors: as `start`."""
        with self._lock:
            return self._running().submit(tokens, params)

    def close(self) -> None:
        """Ends the process, also one that is just starting."""
        self._closed = True  # Not under the lock, which a start holds.
        if self._newest:
            self._newest.stop()

    def _running(self, on_compiling: Callable[[], None] = lambda: None) -> "EngineProcess":
        self._check_open()
        if self._process is None or not self._process.alive:
            again = self._process is not None
            self._newest = EngineProcess(self._folder, self._threads)
            if self._closed:
                self._newest.stop()
            try:
                self._newest.await_ready(self._folder, on_compiling)
            except ModelDamaged:
                self._check_open()  # Else it was `close` that ended it.
                raise
            self._process = self._newest
            if again:
                self.restarted_at = time.time()
        return self._process

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeClosed("The runtime is closed. Make a new FalconRuntime.")


class EngineProcess:
    """One run of the worker process, from start to death."""

    def __init__(self, folder: Path, threads: int | None):
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  ExecuTorch writes notes there; told when it dies.
        arguments = str(folder), str(threads or 0)
        self._child = Child(f"{__package__}.worker", *arguments, stderr=self._log, **ENVIRONMENT)
        self.pid = self._child.pid
        self._sending = threading.Lock()
        self._streams: dict[int, StepStream] = {}
        self._numbers = count()
        self.alive = False

    def await_ready(self, folder: Path, on_compiling: Callable[[], None]) -> None:
        """Returns when the model is loaded. Errors: those of `Engine.start`."""
        try:
            while isinstance(answer := self._child.connection.recv(), Compiling):
                on_compiling()
        except (EOFError, OSError):
            answer = ModelDamaged(
                f"The engine ended while it loaded {folder} ({self._death()}). There may be too little memory, or the "
                "program is damaged: convert the model again."
            )
        if not isinstance(answer, Ready):
            self._child.ended()
            raise answer
        self.alive = True
        threading.Thread(target=self._receive, name="falcon-engine", daemon=True).start()

    def submit(self, tokens: Sequence[int], params: SamplingParams | None) -> StepStream:
        stream = StepStream(self, next(self._numbers))
        self._streams[stream._request] = stream
        self.send(Submit(stream._request, tuple(tokens), params))
        if not self.alive:  # It died between the check and the sending: nobody else would tell this stream.
            self._fail_all()
        return stream

    def send(self, message: Any) -> None:
        try:
            with self._sending:
                self._child.connection.send(message)
        except OSError:
            pass  # The process is gone; the receiving thread tells every stream.

    def stop(self) -> None:
        """Ends the process and every stream; does not wait for a step to end. The process is gone then, its memory
        free."""
        self._child.kill()

    def _receive(self) -> None:
        try:
            while True:
                steps: tuple[Step, ...] = self._child.connection.recv()
                for step in steps:
                    stream = self._streams[step.request]
                    if step.finish_reason:
                        del self._streams[step.request]
                    stream.inbox.put(step)
        except (EOFError, OSError):
            self.alive = False
            self._fail_all()

    def _fail_all(self) -> None:
        cause = self._death()
        while self._streams:
            try:
                _, stream = self._streams.popitem()
            except KeyError:
                return
            stream.inbox.put(
                EngineDied(
                    f"The engine's process ended while it was working ({cause}). Nothing you wrote is lost: send it "
                    "again, and a new engine starts."
                )
            )

    def _death(self) -> str:
        """How the process ended, in words; what it wrote goes to the log."""
        code, how = self._child.ended()
        if not self._child.killed:
            self._log.seek(0)
            wrote = self._log.read()[-4000:].decode(errors="replace")
            logger.error("the engine ended with code %d; it wrote:\n%s", code, wrote)
        return how
