"""Files that others have made, read with bounds: nothing of a size that a file only claims is allocated, and nothing is
waited for."""

import os
import stat
from pathlib import Path
from typing import Any

from pydantic_core import from_json

SETTINGS_BYTES = 4_000_000
"""The largest JSON file of settings. Real ones have kilobytes."""
BYTES_PER_VALUE = 16
"""A JSON file may have a value for so many bytes of its limit: the shortest values take twenty times their size in
memory. Real tokenizers, whose values are short, stay below this too."""


class Unreadable(Exception):
    """Why a file cannot be read, in words that go on from its name."""


def read_bytes(path: Path, limit: int) -> bytes:
    """All of a regular file of at most `limit` bytes. Errors: Unreadable."""
    try:
        # A pipe without a writer would be waited for.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("is not a regular file")
            content = file.read(limit + 1) if status.st_size <= limit else b""
    except FileNotFoundError as error:
        raise Unreadable("is missing") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name.
        raise Unreadable(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if status.st_size > limit or len(content) > limit:
        raise Unreadable(f"has more than {limit:,} bytes, which no such file needs")
    return content


def read_json(path: Path, limit: int = SETTINGS_BYTES) -> dict[str, Any]:
    """The JSON object in a file of at most `limit` bytes: without NaN, nested at most 200 deep. Errors: Unreadable."""
    content = read_bytes(path, limit)
    most = limit // BYTES_PER_VALUE
    if sum(map(content.count, (b"[", b"{", b",", b":"))) > most:  # One of these stands before every value.
        raise Unreadable(f"has more than {most:,} values, which no such file needs")
    try:
        value = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise Unreadable(f"is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise Unreadable("holds no JSON object")
    return value
