"""The engine's process as its parent has it."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from ..errors import FalconError, ModelDamaged
from ..models.backends import libraries
from ..models.drafts import DraftSource
from ..models.reading import check_model, read_model
from ..system.child import Child
from .messages import Cancel, Compiling, Ready, Submit
from .step import Step
from .stream import StepStream

logger = logging.getLogger(__name__)

LISTEN_S = 1
PATIENCE, PATIENCE_S = 30, 15
"""A forward may take so many times as long as the longest did, and so many seconds in any case: other programs may need
the processor, and the weights may have to be read from the disk again."""
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
OnEnd = Callable[["EngineProcess", Sequence[StepStream], str], None]
"""Takes a process that has ended, the requests that it leaves, and how it ended."""


class ProcessGone(Exception):
    """The process has ended."""


class EngineProcess:
    """One run of the worker process, from start to death."""

    def __init__(
        self, folder: Path, threads: int | None, draft: DraftSource | None, draft_required: bool, on_end: OnEnd
    ):
        self._folder, self._on_end, self._draft_required = folder, on_end, draft_required
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  ExecuTorch writes notes there; told when it dies.
        arguments = str(folder), str(threads or 0), str(draft.folder if draft else "")
        self._child = Child("falcon_runtime.engine.worker", *arguments, stderr=self._log, **ENVIRONMENT, **libraries())
        self.pid = self._child.pid
        self.served = 0
        """Requests that came to their end."""
        # Reentrant, as the garbage collector may cancel a request in a thread that holds it.
        self._lock = threading.RLock()
        self._streams: dict[int, StepStream] = {}
        self._numbers = count()
        self._heard = time.monotonic()
        self._patience_s = 0.0
        self._hung = False
        self.alive = False

    def await_ready(self, on_compiling: Callable[[], None]) -> Ready:
        """Returns when the model is loaded, and its program was found to be what was converted. Errors: those of
        `Engine.start`."""
        with ThreadPoolExecutor(1, "falcon-check") as beside:
            checked = beside.submit(lambda: check_model(self._folder, read_model(self._folder)))
            answer = self._answer(on_compiling)
        if (damage := checked.exception()) and isinstance(answer, Ready | ModelDamaged):
            self.stop()
            raise damage
        if not isinstance(answer, Ready):
            self._child.ended()
            raise answer
        if answer.draft_problem and self._draft_required:
            self.stop()
            raise answer.draft_problem
        self._patience_s, self.alive = max(PATIENCE_S, PATIENCE * answer.forward_s), True
        threading.Thread(target=self._listen, name="falcon-engine", daemon=True).start()
        return answer

    def _answer(self, on_compiling: Callable[[], None]) -> Ready | FalconError:
        """What became of loading the model."""
        try:
            while isinstance(answer := self._child.connection.recv(), Compiling):
                on_compiling()
        except (EOFError, OSError):
            return ModelDamaged(
                f"The engine ended while it loaded {self._folder} ({self._death()}). There may be too little memory, "
                "or the program is damaged: convert the model again."
            )
        assert isinstance(answer, Ready | FalconError)
        return answer

    def submit(self, stream: StepStream) -> None:
        """Errors: ProcessGone."""
        with self._lock:
            if not self.alive:
                raise ProcessGone
            if not self._streams:
                self._heard = time.monotonic()
            number = next(self._numbers)
            self._streams[number] = stream
            stream.cancel = partial(self._cancel, number)
            self._send(Submit(number, stream.tokens, stream.params))
        if stream.closed:  # While no process had it.
            stream.cancel()

    def stop(self) -> None:
        """Ends the process and every stream; does not wait for a step to end. The process is gone then, its memory
        free."""
        self._child.kill()

    def dismiss(self) -> None:
        """The same, of which nobody is told."""
        self._on_end = lambda *_: None
        self.stop()

    def _cancel(self, number: int) -> None:
        with self._lock:
            self._send(Cancel(number))

    def _send(self, message: Any) -> None:
        with suppress(OSError):  # The process is gone, then; the listening thread tells every stream.
            self._child.connection.send(message)

    def _listen(self) -> None:
        """Until the process ends, be it by itself or because it stands still: while it has work, it tells something
        after each forward."""
        try:
            while True:
                if self._child.connection.poll(LISTEN_S):
                    self._take(self._child.connection.recv())
                elif self._streams and time.monotonic() - self._heard > self._patience_s:
                    self._hung = True
                    self.stop()
        except (EOFError, OSError):
            pass
        cause = self._death()
        with self._lock:
            self.alive = False
            left = list(self._streams.values())
            self._streams.clear()
        self._on_end(self, left, cause)

    def _take(self, steps: Sequence[Step]) -> None:
        self._heard = time.monotonic()
        for step in steps:
            stream = self._streams[step.request]
            if step.finish_reason:
                with self._lock:
                    del self._streams[step.request]
                self.served += 1
            stream.add(step)

    def _death(self) -> str:
        """How the process ended, in words; what it wrote goes to the log."""
        code, how = self._child.ended()
        if self._hung:
            how = f"it had stopped responding for {self._patience_s:.0f} s, and was ended"
            logger.error("the engine stood still for %.0f s and was ended", self._patience_s)
        elif not self._child.killed:
            self._log.seek(0)
            wrote = self._log.read()[-4000:].decode(errors="replace")
            logger.error("the engine ended with code %d; it wrote:\n%s", code, wrote)
        return how
