"""The checksum by which files are known: of downloads, of checkpoints, and of converted programs."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from .files import Unreadable, read_bytes
from .folders import user_cache


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(path: Path, sha256: str) -> bool:
    """Whether a file has this SHA-256. It is read at the disk's speed, without the GIL, unless it was found to have it
    before and has not changed since. Errors: OSError."""
    before = _identity(path, sha256)
    with suppress(Unreadable):
        if read_bytes(_record(path), len(before)) == before:
            return True
    if sha256_of(path) != sha256:
        return False
    if _identity(path, sha256) == before:
        remember(path, sha256)
    return True


def remember(path: Path, sha256: str) -> None:
    """Records that the file as it is now has this SHA-256, in the user's cache folder if that can be written.

    Whoever reads a record that another process has written in part takes it for none.
    """
    with suppress(OSError):
        record = _record(path)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)  # Whatever it is: a pipe would be waited for, a link be followed.
        record.write_bytes(_identity(path, sha256))


def _record(path: Path) -> Path:
    status = path.stat()
    return user_cache() / "verified" / f"{status.st_dev}-{status.st_ino}"


def _identity(path: Path, sha256: str) -> bytes:
    """What changes when the file does. Programs can set the time of its last modification, not st_ctime."""
    status = path.stat()
    facts = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return " ".join([*map(str, facts), sha256, os.path.realpath(path)]).encode(errors="surrogateescape")
