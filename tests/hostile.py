"""Files that somebody has made, or that have come to harm: what readers may do with them."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

from falcon_runtime.errors import FalconError

SECONDS, BYTES = 5, 1_000_000_000


@contextmanager
def bounded() -> Iterator[None]:
    """Nothing in the block may take more of a processor or of memory, nor raise anything but a FalconError with some
    words of advice. That memory did not suffice is none: what is too much is to be refused before it is allocated."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, limits[1]))
    began, raised = time.process_time(), None
    try:
        yield
    except FalconError as error:
        raised = error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - began < SECONDS
    if raised:
        assert 20 < len(str(raised)) < 1500
        assert not _lacked_memory(raised), "It was allocated."
        raise raised


def _lacked_memory(error: BaseException | None) -> bool:
    lacked = isinstance(error, MemoryError) or "allocate" in str(error).lower()
    return lacked or (error is not None and _lacked_memory(error.__cause__))


@st.composite
def harmed(draw: st.DrawFn, content: bytes, within: int | None = None) -> bytes:
    """`content` cut off, or with some bytes of its first `within` changed."""
    harm = bytearray(content)
    places = st.integers(0, min(within or len(content), len(content)) - 1)
    if draw(st.booleans()):
        return bytes(harm[: draw(places)])
    for place, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        harm[place] = value
    return bytes(harm)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def empty(path: Path) -> None:
    path.touch()


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # Without a block on the disk.


def deep(path: Path) -> None:
    path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def long_number(path: Path) -> None:
    path.write_text('{"a":' + "9" * 1_000_000 + "}")


def many_values(path: Path) -> None:
    path.write_text('{"a":[' + "[]," * 1_300_000 + "[]]}")


def no_text(path: Path) -> None:
    path.write_bytes(b'{"a":"\xff\xfe"}')


def half_a_pair(path: Path) -> None:
    path.write_text('{"a":"\\ud800"}')


def a_list(path: Path) -> None:
    path.write_text("[]")


def nothing(path: Path) -> None:
    path.write_text("null")


ODD = [pipe, folder, circle, nowhere, device, empty, huge]
BAD_JSON = [*ODD, deep, long_number, many_values, no_text, half_a_pair, a_list, nothing]
"""What may be at the place of a JSON file."""


def named(value: object) -> str:
    return getattr(value, "__name__", None) or f"{value!r:.40}"


def put(path: Path, make: object) -> None:
    path.unlink(missing_ok=True)
    make(path)  # type: ignore[operator]
