"""Folders that are replaced as a whole: at any moment there is the earlier one or the new one, even if a process dies.

The new folder grows beside the earlier one, and two renames put it in its place. Whoever dies between the two leaves
nothing there but the earlier one under another name; `recover` puts that back.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

EARLIER = ".earlier"


def lock_of(folder: Path) -> FileLock:
    """Held by whoever replaces `folder`."""
    return FileLock(_beside(folder, ".lock"))


@contextmanager
def replacement(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends, and goes if it raises. The lock is held.

    Errors: OSError.
    """
    unfinished, earlier = _beside(folder, ".partial"), _beside(folder, EARLIER)
    _put_back(folder)
    shutil.rmtree(unfinished, ignore_errors=True)  # What a killed process has left.
    unfinished.mkdir()
    try:
        yield unfinished
        if folder.exists():
            os.replace(folder, earlier)
        os.replace(unfinished, folder)
    finally:
        _put_back(folder)
        shutil.rmtree(unfinished, ignore_errors=True)


def recover(parent: Path) -> None:
    """Puts back what processes that died have left without a place, anywhere in `parent`."""
    with suppress(OSError):  # A folder that cannot be written has nobody who replaces anything in it.
        for earlier in parent.glob(f".*{EARLIER}"):
            folder = parent / earlier.name.removeprefix(".").removesuffix(EARLIER)
            with suppress(Timeout), lock_of(folder).acquire(blocking=False):  # Else somebody is at it.
                _put_back(folder)


def _put_back(folder: Path) -> None:
    earlier = _beside(folder, EARLIER)
    if folder.exists():
        shutil.rmtree(earlier, ignore_errors=True)
    elif earlier.exists():
        os.replace(earlier, folder)


def _beside(folder: Path, ending: str) -> Path:
    return folder.parent / f".{folder.name}{ending}"
