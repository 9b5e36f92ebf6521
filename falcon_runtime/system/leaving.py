"""How a server ends: at once, whatever it is at, and with everything that it has started."""

import os
import signal
from collections.abc import Callable

from .child import kill_children

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
"""Those that end a server."""


def leave_at_signals(clean: Callable[[], None] = lambda: None) -> None:
    """Has signals end this process with exit code 0 after `clean`, whatever it is at: loading, downloading, converting,
    answering.

    Threads that wait for something are not asked; there is nothing to finish, for files are put in place by renames.
    """

    def leave(*_: object) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # Impatience should not interrupt this.
        kill_children()
        clean()
        os._exit(0)

    for number in SIGNALS:
        signal.signal(number, leave)
