"""The command line: `falcon COMMAND`, or `python -m falcon_runtime COMMAND`."""

import io
import sys
import traceback

from ..errors import FalconError
from . import commands
from .arguments import parse
from .notes import print_error, set_notes


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; the exit code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Neither what comes in nor a file's name needs to be UTF-8.
    options = parse(arguments)
    set_notes(options.quiet, options.verbose)
    try:
        return int(getattr(commands, options.command)(options) or 0)
    except FalconError as error:
        if options.verbose:
            traceback.print_exc()
        print_error(error)
        return 1
    except KeyboardInterrupt:
        return 130
