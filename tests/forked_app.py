"""Starts of the app that take no imports.

Gradio's import takes seconds of a processor, and the tests start the app some thirty times. Here the fork server of
`multiprocessing` imports it once, and each app is a fork of that, with flags, variables and output of its own.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any

import psutil

NO_HUB = "http://127.0.0.1:9"
"""Where no model hub is, and nothing else."""
READ_AT_IMPORT = ("GRADIO_", "HF_")
"""What variables begin with that libraries read when they are imported: an app with others needs a start of its own."""


class ForkedApp(psutil.Process):  # type: ignore[misc]  # psutil has no types.
    """As `psutil.Popen`. The exit code comes from the fork server, whose child the app is."""

    def __init__(self, process: BaseProcess):
        super().__init__(process.pid)
        self._forked = process

    def poll(self) -> int | None:
        return self._forked.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._forked.join(timeout)
        if (code := self.poll()) is None:
            raise psutil.TimeoutExpired(timeout, self.pid)
        return code


def fork_app(flags: Sequence[str], output: int, errors: int, env: Mapping[str, str]) -> ForkedApp:
    """The app with these flags and variables; what it writes goes to the open files `output` and `errors`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.app_imports"])
    process = context.Process(target=_run, args=(flags, _Inherited(output), _Inherited(errors), dict(env)), daemon=True)
    process.start()
    return ForkedApp(process)


class _Inherited:
    """An open file that the new process gets."""

    def __init__(self, number: int):
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _Inherited._there, (DupFd(self._number),)

    @staticmethod
    def _there(inherited: Any) -> int:
        return int(inherited.detach())


def _run(flags: Sequence[str], output: int, errors: int, env: Mapping[str, str]) -> None:
    """In the new process: all that is there is made what it is in a process of the app's own."""
    for number, standard in ((output, 1), (errors, 2)):
        os.dup2(number, standard)
        os.close(number)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # It may be another one than the fork server's.
    sys.argv = ["app.py", *flags]
    import app

    sys.exit(app.main())
