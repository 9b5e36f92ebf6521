"""A module of this package in a process of its own: the engine, and the conversion.

Neither belongs into the process that serves the page: they take its GIL and gigabytes of memory, and what goes wrong in
native code ends a process. Messages go both ways over a socket as pickled objects; a child ends when its parent has.
"""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

from ..errors import NotEnoughMemory


class Child:
    """The running process of `python -m MODULE SOCKET ARGUMENTS…`, and our end of its socket."""

    def __init__(self, module: str, *arguments: str, stderr: IO[bytes] | None = None, **variables: str):
        """What it prints goes where ours goes, or to `stderr`; `variables` are added to its environment. Errors:
        NotEnoughMemory."""
        try:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],  # -P: not what lies around.
                    env=subprocess_env(**variables),
                    stdin=subprocess.DEVNULL,
                    stderr=stderr,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # So that it can be ended with what it has started.
                )
                _running.add(self)
                self.connection = Connection(ours.detach())
        except OSError as error:
            raise NotEnoughMemory(
                f"No process can be started now ({error.strerror}): this machine is short of memory, of processes "
                "or of open files. End other programs, or try again in a moment."
            ) from error
        self.killed = False
        """Whether it was us who ended it."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Ends it and what it has started, whatever it is at; its memory is free then."""
        self.send_kill()
        self._process.wait()
        _running.discard(self)

    def send_kill(self) -> None:
        """The same, but does not wait until it has ended."""
        self.killed = True
        if self._process.returncode is not None:
            return  # Its number may be another process's by now.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # It has nothing to finish, and may be suspended.

    def ended(self) -> tuple[int, str]:
        """Its exit code, and how it ended in words. Waits until it has."""
        code = self._process.wait()
        _running.discard(self)
        return code, f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


_running: set[Child] = set()


def kill_children() -> None:
    """Ends all that this process has started. Safe in a signal's handler: it takes no lock, `subprocess`'s neither,
    which whoever was interrupted may hold."""
    _kill({child.pid for child in list(_running)})
    while unnoted := _started():
        _kill(unnoted)


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with suppress(ChildProcessError):  # Another thread has waited for it.
            os.waitpid(pid, 0)


def _started() -> set[int]:
    """Processes that Linux says this one has started: the thread that starts one may be interrupted before it has noted
    that."""
    pids: set[int] = set()
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # The thread has ended.
            pids.update(map(int, children.read_text().split()))
    return pids


def connect(socket: str) -> Connection:
    """The child's end, of which its first argument is the number. Ctrl-C is for the parent to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return Connection(int(socket))


def subprocess_env(**variables: str) -> dict[str, str]:
    """This process's environment, with `variables`, in which `python -m falcon_runtime` finds this very package,
    whatever the working directory."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | variables | {"PYTHONPATH": os.pathsep.join(paths)}
