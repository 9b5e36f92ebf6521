"""What was typed in `chat`, kept from one run to the next: the user's own lines, and no answers."""

import os
from contextlib import suppress

from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ..system.folders import user_state
from ..system.unicode import whole


class _Kept(FileHistory):
    def store_string(self, string: str) -> None:
        with suppress(OSError):  # A full disk should not end the conversation.
            super().store_string(whole(string))


def history(kept: bool) -> History:
    """That of earlier runs, to which this one adds, in a file that only the user may read; of this run alone unless
    it is to be `kept`, and where there is no such file to be had."""
    file = user_state() / "chat-history"
    if kept:
        with suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return _Kept(str(file))
    return InMemoryHistory()
