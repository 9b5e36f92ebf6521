"""Obtaining a catalogue model: download and conversion, in a process of their own.

Conversion takes all of a core, gigabytes of memory and the exporter's imports; none of that belongs into the process
that serves the page. The process is our own command line, and what it prints is its progress.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from . import errors
from .catalog import CatalogEntry
from .child import environment
from .status import Status


def obtain(
    entry: CatalogEntry,
    folder: Path,
    report: Callable[[Status], None],
    on_start: Callable[[subprocess.Popen[str]], None] = lambda process: None,
) -> None:
    """Downloads `entry` and converts it, in its recipe, into `folder`; `on_start` gets the process that does, for
    ending it early.

    Errors: DownloadFailed, ConversionFailed.
    """
    report(Status("downloading", f"Downloading {entry.title}"))
    conversion = ["convert", entry.name, "--recipe", entry.recipe, "--output", str(folder), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", __package__, *conversion],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    on_start(process)
    failure = None
    with process:
        assert process.stdout
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # Something that a library printed.
            if "error" in event:
                failure = event
            elif "state" in event:
                report(Status(**event))
    if failure:
        raise getattr(errors, failure["error"])(failure["message"])
    if process.returncode:
        raise errors.ConversionFailed(
            f"The conversion of {entry.title} ended early (exit code {process.returncode}); too little memory is the "
            "usual reason. It starts again with the next request."
        )
