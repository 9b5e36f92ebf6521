"""What the command line tells people besides its results: on stderr, and nothing of it with --quiet."""

import logging
import sys
import time
import warnings

from ..status import Status
from ..system.unicode import whole

_quiet = False


def set_notes(quiet: bool, verbose: bool) -> None:
    """What this process says besides results and errors: its own notes unless `quiet`, and what the libraries under it
    say of themselves, at import and later, only where it is `verbose`."""
    global _quiet
    _quiet = quiet
    if not verbose:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)


def note(text: str) -> None:
    """Shows some lines, above a status that is rewritten."""
    if not _quiet:
        print(("\r\033[K" if sys.stderr.isatty() else "") + text, file=sys.stderr, flush=True)


def print_error(error: Exception) -> None:
    start = "\r\033[K" if sys.stderr.isatty() else ""  # Over a status that is rewritten.
    print(f"{start}error: {whole(str(error))}", file=sys.stderr)


class StatusLine:
    """Shows a status on the terminal: one line that is rewritten, or on no terminal a line for each new state and every
    ten seconds."""

    def __init__(self) -> None:
        self._last: tuple[str, float] = ("", 0)

    def __call__(self, status: Status) -> None:
        if _quiet:
            return
        if sys.stderr.isatty():
            print(f"\r\033[K{status}", end="" if status.state != "ready" else "\n", file=sys.stderr, flush=True)
            return
        state, printed = self._last
        if status.state != state or time.monotonic() - printed > 10:
            print(status, file=sys.stderr, flush=True)
            self._last = status.state, time.monotonic()
