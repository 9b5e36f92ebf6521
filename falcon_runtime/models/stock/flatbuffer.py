"""Tables of a FlatBuffers file, read on demand: nothing is allocated by what the file only claims, and a file that is
cut while it is read is an error, where mapped memory would end the process.

Source of the format: "FlatBuffer internals" in the documentation of FlatBuffers.
"""

import os
import struct
from collections.abc import Iterator
from functools import lru_cache

BLOCK, BLOCKS = 1 << 16, 256
"""Bytes that are read at a time, and how many such blocks are kept."""
LONGEST = 1000
"""Bytes of a string; names have a tenth."""
MOST = 2_000_000
"""Elements of all vectors of a file, and bytes of all names. The largest programs have some hundred thousand."""


class Malformed(Exception):
    """The file is not what it should be, in words that go on from its name."""


class Buffer:
    """An open file of `size` bytes."""

    def __init__(self, descriptor: int, size: int):
        self.size, self._elements = size, 0
        self._block = lru_cache(BLOCKS)(lambda index: os.pread(descriptor, BLOCK, index * BLOCK))

    def read(self, at: int, count: int) -> bytes:
        """Errors: Malformed where there are no `count` bytes."""
        if not 0 <= at <= at + count <= self.size:
            raise Malformed("is truncated or damaged: it refers to what lies outside of it")
        parts = []
        while count:
            index, start = divmod(at, BLOCK)
            part = self._block(index)[start : start + count]
            if not part:
                raise Malformed("was cut while it was read")
            parts.append(part)
            at, count = at + len(part), count - len(part)
        return b"".join(parts)

    def number(self, at: int, form: str) -> int:
        """In a form of `struct`'s."""
        (value,) = struct.unpack(f"<{form}", self.read(at, struct.calcsize(f"<{form}")))
        return int(value)

    def take(self, elements: int) -> None:
        """Counts what a vector has; who counts it reads all of it."""
        self._elements += elements
        if self._elements > MOST:
            raise Malformed("is damaged: it lists more than any program has")


class Table:
    """Its fields are known by their places in the schema, the first one being 0; those of a union take two."""

    def __init__(self, buffer: Buffer, at: int):
        self._buffer, self._at = buffer, at
        self._index = at - buffer.number(at, "i")
        self._index_bytes = buffer.number(self._index, "H")

    @classmethod
    def root(cls, buffer: Buffer) -> "Table":
        return cls(buffer, buffer.number(0, "I"))

    def number(self, field: int, form: str) -> int:
        """0 where it is left out."""
        place = self._place(field)
        return self._buffer.number(place, form) if place else 0

    def double(self, field: int) -> float:
        place = self._place(field)
        return float(struct.unpack("<d", self._buffer.read(place, 8))[0]) if place else 0.0

    def text(self, field: int) -> str:
        """Empty where it is left out."""
        place = self._target(field)
        if not place:
            return ""
        if (length := self._buffer.number(place, "I")) > LONGEST:
            raise Malformed("is damaged: a name in it is longer than any is")
        self._buffer.take(length)
        return self._buffer.read(place + 4, length).decode(errors="replace")

    def table(self, field: int) -> "Table | None":
        place = self._target(field)
        return Table(self._buffer, place) if place else None

    def numbers(self, field: int, form: str) -> tuple[int, ...]:
        place = self._target(field)
        if not place:
            return ()
        count = self._count(place)
        return struct.unpack(f"<{count}{form}", self._buffer.read(place + 4, count * struct.calcsize(f"<{form}")))

    def tables(self, field: int) -> Iterator["Table"]:
        place = self._target(field)
        for i in range(self._count(place) if place else 0):
            at = place + 4 + 4 * i
            yield Table(self._buffer, at + self._buffer.number(at, "I"))

    def _place(self, field: int) -> int:
        """Where the field lies; 0 if it is left out."""
        entry = 4 + 2 * field
        offset = self._buffer.number(self._index + entry, "H") if entry < self._index_bytes else 0
        return self._at + offset if offset else 0

    def _target(self, field: int) -> int:
        """Where that lies that the field refers to; 0 if it is left out."""
        place = self._place(field)
        return place + self._buffer.number(place, "I") if place else 0

    def _count(self, place: int) -> int:
        """Of the elements of the vector there."""
        count = self._buffer.number(place, "I")
        self._buffer.take(count)
        return count
