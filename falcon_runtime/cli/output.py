"""Results, on stdout: what a person reads as it comes, and with `--json` what programs read."""

import json
import os
import sys
from contextlib import suppress
from typing import Any

from ..errors import FalconError


class ReaderGone(Exception):
    """Nobody reads the results any more, as behind `| head -1`."""


class OutputLost(FalconError):
    """The results cannot be written: the disk is full, say."""


def write(text: str, end: str = "\n") -> None:
    """Prints it at once. Errors: ReaderGone, OutputLost."""
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise OutputLost(f"The results cannot be written: {error.strerror}.") from error


def write_json(value: Any) -> None:
    """Prints it as one line. Errors: ReaderGone, OutputLost."""
    write(json.dumps(value, ensure_ascii=False))


def open_streams() -> None:
    """Makes the standard streams fit for anything: neither what comes in nor a file's name needs to be UTF-8, and a
    shell may have closed one of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  It is open as long as the process.
        if reconfigure := getattr(getattr(sys, name), "reconfigure", None):
            reconfigure(errors="replace")


def drop_unwritten() -> None:
    """Forgets what nobody takes. Python would try again when it ends, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):  # It has no descriptor, in a test say.
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
