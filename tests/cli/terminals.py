"""Programs on a terminal of their own, for the tests of what happens at a keyboard."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..command_line import ROOT

# Ctrl-C comes from the terminal that a session has for its own.
IN_A_SESSION = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\n"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
ASKS = b"\x1b[?2004h"
"""What a terminal gets when the program waits for a message: it is to mark what is pasted."""
CTRL_C, CTRL_D, UP = b"\x03", b"\x04", b"\x1b[A"


@dataclass
class Terminal:
    process: subprocess.Popen[bytes]
    controller: int

    def type(self, keys: bytes) -> None:
        os.write(self.controller, keys)

    def until(self, end: bytes) -> bytes:
        """What is shown until that is."""
        shown = b""
        while end not in shown:
            shown += os.read(self.controller, 4096)
        return shown

    def more(self, characters: int) -> None:
        """Returns when so much more has been shown."""
        while characters > 0:
            characters -= len(os.read(self.controller, 4096))


@contextmanager
def terminal(*arguments: str, **variables: str | Path) -> Iterator[Terminal]:
    """Python with `arguments`, for which all three streams are a terminal."""
    controller, other = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_SESSION, *arguments],
        env=os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"} | {k: str(v) for k, v in variables.items()},
        cwd=ROOT,
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    try:
        yield Terminal(process, controller)
    finally:
        process.kill()
        process.wait()
        os.close(controller)
