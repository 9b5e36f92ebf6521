"""Weights in huge pages.

A file is mapped in pages of 4 kB, and decode reads nearly all of a model's for each token: where each of them lies has
to be looked up, which in a virtual machine can take as long as reading a third of it. So what is mapped becomes memory
of this process's own, in pages of 2 MB, a piece at a time and in its place: whoever has the address of a weight reads
the same bytes there, before and after.
"""

import ctypes
import mmap
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PAGE = 2 << 20
"""Bytes of a huge page on x86-64, and on ARM where small pages have 4 kB."""
PIECE = 16 * PAGE
"""Bytes that are moved at a time: some hundredths of a second."""
SYSTEM = Path("/sys/kernel/mm/transparent_hugepage")
FIXED = 1 | 2
"""mremap's MREMAP_MAYMOVE and MREMAP_FIXED."""
FAILED = ctypes.c_void_p(-1).value


class _Piece(NamedTuple):
    address: int
    size: int


class HugePages:
    """Moves what this process has mapped of files. `may_take` says how many bytes of memory it may take now: if they do
    not suffice for a piece, it and the rest stay where they are, as all do where the system has no huge pages."""

    def __init__(self, may_take: Callable[[], int]):
        self._may_take = may_take
        self._pieces: list[_Piece] = []

    @property
    def left(self) -> bool:
        """Whether there is anything more to move."""
        return bool(self._pieces)

    def add(self, path: Path) -> None:
        """Has what is mapped of a file be moved, too."""
        if _offered():
            self._pieces += _pieces(os.path.realpath(path))

    def move(self, seconds: float = 0) -> None:
        """Moves a piece, and others as long as no more than `seconds` have gone by."""
        began = time.monotonic()
        while self._pieces:
            if self._may_take() < PIECE or not _moved(self._pieces.pop()):
                self._pieces.clear()
            if time.monotonic() - began >= seconds:
                break


def _offered() -> bool:
    """Whether the system gives huge pages of this size to who asks for them."""
    with suppress(OSError):
        return (
            "[never]" not in (SYSTEM / "enabled").read_text() and int((SYSTEM / "hpage_pmd_size").read_text()) == PAGE
        )
    return False


def _pieces(path: str) -> list[_Piece]:
    """What is mapped of a file, as far as it fills huge pages."""
    pieces = []
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        addresses, *_, name = line.split(maxsplit=5)
        if name == path:
            first, end = (int(address, 16) for address in addresses.split("-"))
            begin, stop = -(-first // PAGE) * PAGE, end // PAGE * PAGE
            pieces += [_Piece(address, min(PIECE, stop - address)) for address in range(begin, stop, PIECE)]
    return pieces


def _moved(piece: _Piece) -> bool:
    """Whether a piece could be moved; else it is where it was."""
    reserved = piece.size + PAGE
    room = _call("mmap", None, reserved, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    if room == FAILED:
        return False
    try:
        begin = -(-room // PAGE) * PAGE
        _call("madvise", begin, piece.size, mmap.MADV_HUGEPAGE)
        ctypes.memmove(begin, piece.address, piece.size)  # Not from the file, which may be another one by now.
        _call("mprotect", begin, piece.size, mmap.PROT_READ)
        if _call("mremap", begin, piece.size, piece.size, FIXED, piece.address) == FAILED:
            return False
        _call("mlock", piece.address, piece.size)  # If that is allowed: ExecuTorch has asked for it, too.
        return True
    finally:
        _call("munmap", room, reserved)


def _call(function: str, *arguments: int | None) -> int:
    """What a function of the C library returns that takes addresses and sizes, as an address."""
    call = getattr(ctypes.CDLL(None), function)
    call.restype = ctypes.c_void_p
    return int(call(*(None if argument is None else ctypes.c_ssize_t(argument) for argument in arguments)) or 0)
