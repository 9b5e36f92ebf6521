"""What the command line tells people besides its results: on stderr, and nothing of it with --quiet."""

import dataclasses
import json
import logging
import os
import sys
import time
import traceback
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..status import Status
from ..system.unicode import whole

if TYPE_CHECKING:
    from tqdm import tqdm

COLUMNS, ROWS = 80, 24
"""Of a terminal that does not know how large it is."""
LINE_S, DRAW_S = 10, 0.1
"""Seconds between two lines, or drawings, of the same work."""


class Notes:
    """On a terminal a bar shows how far work is, elsewhere a line for each new piece of it and every ten seconds. With
    --json, each line that no terminal shows is a JSON object: `{"status": …}`, `{"note": …}`, and an error, wherever it
    goes, `{"error": {"type": …, "message": …}}`."""

    def __init__(self) -> None:
        self.quiet = self.verbose = self.json = False
        self._bar: tqdm[Any] | None = None
        self._told: tuple[str, str] = ("", "")
        self._told_at = 0.0

    def set(self, quiet: bool, verbose: bool, json: bool) -> None:
        """What this process says besides results and errors: its own notes unless `quiet`, and what the libraries
        under it say of themselves, at import and later, only where it is `verbose`."""
        self.quiet, self.verbose, self.json, self._told = quiet, verbose, json, ("", "")
        if not verbose:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)

    def note(self, text: str) -> None:
        """Shows some lines."""
        if not self.quiet:
            self.clear()
            self._print(json.dumps({"note": text}) if self._for_programs else text)

    def error(self, error: Exception) -> None:
        """Tells what went wrong, also with --quiet; where it is `verbose`, also where."""
        self.clear()
        if self.verbose:
            self._print("".join(traceback.format_exception(error)))
        kind, message = type(error).__name__, whole(str(error))
        if self.json:
            self._print(json.dumps({"error": {"type": kind, "message": message}}))
        else:
            self._print(f"error: {message}")

    def status(self, status: Status) -> None:
        """Shows how far something is. That it failed is an error's to say."""
        if self.quiet or status.state == "failed":
            return
        work = status.state, status.message.partition(":")[0]
        now = time.monotonic()
        if work == self._told and now - self._told_at < (DRAW_S if self.json or sys.stderr.isatty() else LINE_S):
            return
        self._told, self._told_at = work, now
        if not sys.stderr.isatty():
            self._print(json.dumps({"status": dataclasses.asdict(status)}) if self.json else str(status))
        elif status.state == "ready":
            self.clear()
            self._print(str(status))
        else:
            self._draw(status)

    def clear(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @property
    def _for_programs(self) -> bool:
        return self.json and not sys.stderr.isatty()

    def _draw(self, status: Status) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=1, file=sys.stderr, bar_format="{desc}", nrows=ROWS, leave=False)
        if status.progress is None:
            self._bar.bar_format = ", ".join(filter(None, ["{desc}", status.left]))
        else:
            self._bar.bar_format = f"{{desc}} {{percentage:3.0f}}% |{{bar}}| {status.left}"
        self._bar.ncols, self._bar.n = _columns(), status.progress or 0
        self._bar.set_description_str(status.message.removesuffix(",") or status.state.capitalize())

    def _print(self, line: str) -> None:
        with suppress(OSError):  # Nobody reads it, which is no reason to stop.
            print(line, file=sys.stderr, flush=True)


def _columns() -> int:
    """Of the terminal, which may not know how many it has."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS
    except OSError:
        return COLUMNS


NOTES = Notes()
"""Those of this process."""
