"""The command line: `falcon COMMAND`, or `python -m falcon_runtime COMMAND`."""

import sys

from ..errors import FalconError, UsageError
from . import commands
from .arguments import parse
from .notes import NOTES
from .output import ReaderGone, drop_unwritten, open_streams

FAILED, MISUSED, INTERRUPTED, UNREAD = 1, 2, 130, 141
"""Exit codes, as `arguments.EXIT_CODES` describes them."""


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; the exit code."""
    open_streams()
    given = sys.argv[1:] if arguments is None else arguments
    NOTES.json = "--json" in given  # For what is wrong with the arguments themselves.
    try:
        options = parse(given)
        NOTES.set(options.quiet, options.verbose, options.json)
        return int(getattr(commands, options.command)(options) or 0)
    except FalconError as error:
        NOTES.error(error)
        return MISUSED if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except ReaderGone:
        return UNREAD
    finally:
        NOTES.clear()
        drop_unwritten()
