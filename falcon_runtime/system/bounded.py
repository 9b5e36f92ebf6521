"""Work on what somebody else has written, done within bounds of time and memory: by a process of its own, which is
started again after a request has ended it."""

import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .child import Child, connect

PATIENCE_S = 60
"""For the process to start, to end what others have asked, or to get a processor."""


class Bounded:
    """A process of `python -m MODULE`, which calls `serve`, for one request after the other. A processor works on each
    for at most so many `seconds`, and at most so many bytes of memory are allocated for it. Thread-safe."""

    def __init__(self, module: str, seconds: int, memory: int):
        self._arguments = module, str(seconds), str(memory)
        self._lock = threading.Lock()
        self._child: Child | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._child.pid if self._child else None

    def start(self) -> None:
        """Starts the process, so that the first request need not wait for it. Errors: NotEnoughMemory."""
        with self._lock:
            self._child = self._child or self._start()

    def ask(self, request: bytes) -> bytes | None:
        """The reply; None where it does not come within the bounds. Errors: NotEnoughMemory."""
        if not self._lock.acquire(timeout=PATIENCE_S):
            return None
        try:
            for _ in range(2):  # It may have been ended by others, as by a system that is short of memory.
                child = self._child = self._child or self._start()
                with suppress(EOFError, OSError):
                    child.connection.send_bytes(request)
                    if child.connection.poll(PATIENCE_S):
                        return child.connection.recv_bytes()
                self._end()
                if child.ended()[0] == -signal.SIGXCPU:
                    break
            return None
        finally:
            self._lock.release()

    def close(self) -> None:
        """Ends the process, until the next request."""
        with self._lock:
            self._end()

    def _start(self) -> Child:
        child = Child(*self._arguments)
        with suppress(EOFError, OSError):  # Then sending will fail too.
            if child.connection.poll(PATIENCE_S):
                child.connection.recv_bytes()
        return child

    def _end(self) -> None:
        if self._child:
            self._child.kill()
            self._child.connection.close()
        self._child = None


def serve(reply: Callable[[bytes], bytes]) -> None:
    """The process's side: answers requests until the other side is gone."""
    socket, seconds, memory = sys.argv[1:]
    connection = connect(socket)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + int(memory)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send_bytes(b"ready")
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            request = connection.recv_bytes()
            most = int(time.process_time()) + 1 + int(seconds)
            resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))
            connection.send_bytes(reply(request))
