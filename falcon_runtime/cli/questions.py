"""What the command line reads: a text on stdin, and what the user says in a conversation."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import InvalidRequest, UsageError
from ..system.unicode import whole

STDIN = "-"


def read_prompt(given: str | None) -> str:
    """The text itself, or what a pipe brings. The line break at the end is the pipe's: `echo` and editors write one.

    Errors: UsageError, InvalidRequest.
    """
    if given is None and sys.stdin.isatty():
        raise UsageError('No text was given. Give one, as in `falcon generate "Once upon a time"`, or pipe it in.')
    return whole(read_text(STDIN).removesuffix("\n") if given in (None, STDIN) else given)


def read_text(file: str) -> str:
    """What is in a file. Errors: InvalidRequest."""
    try:
        return sys.stdin.read() if file == STDIN else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        name = "stdin" if file == STDIN else file
        raise InvalidRequest(f"{name} cannot be read as text: {error}.") from error


def read_messages(history: bool = True) -> Iterator[str]:
    """What the user says until the input ends. On a terminal, lines that are pasted together are one message, and there
    is line editing with a `history`, which is kept for the next run; otherwise each line is a message."""
    yield from map(whole, _typed(history) if sys.stdin.isatty() else _piped())


def _piped() -> Iterator[str]:
    with suppress(EOFError):
        while True:
            yield input()


def _typed(history: bool) -> Iterator[str]:
    """Ctrl-C drops a message that is being typed; where there is none, it leaves, like Ctrl-D."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output import create_output

    from .history import history as history_of

    session = PromptSession[str](output=create_output(always_prefer_tty=True), history=history_of(history))
    while True:
        try:
            text = session.prompt("> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            if session.default_buffer.text:
                continue
            return
        yield text
