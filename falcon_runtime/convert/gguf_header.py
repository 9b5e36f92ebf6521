"""The header of a GGUF file: its metadata, and where each tensor lies.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every number in it is checked before anything is
allocated or repeated by it; the reader of the package `gguf` believes them all. What the format allows and no model has
is refused: arrays of arrays.
"""

import mmap
import struct
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf import GGUFValueType as Type

HEADER_BYTES = 64_000_000
"""The longest header. Nearly all of it is the vocabulary, of which the largest takes ten megabytes."""
MAX_VALUES = 4_000_000
"""Keys and elements of arrays in all. The largest vocabularies, with scores and kinds or merges, have a million."""
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 4
MAX_DIMENSION = 1 << 40
MAX_ALIGNMENT = 1 << 20
_NUMBERS = {
    Type.UINT8: "<u1",
    Type.INT8: "<i1",
    Type.UINT16: "<u2",
    Type.INT16: "<i2",
    Type.UINT32: "<u4",
    Type.INT32: "<i4",
    Type.FLOAT32: "<f4",
    Type.UINT64: "<u8",
    Type.INT64: "<i8",
    Type.FLOAT64: "<f8",
    Type.BOOL: "?",
}


class BadHeader(Exception):
    """What is wrong, in words that go on from the file's name."""


@dataclass(frozen=True)
class StoredTensor:
    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    """Rows last but one, as in torch; the file has it the other way round."""
    offset: int
    """From the beginning of the file."""

    @property
    def row_bytes(self) -> int:
        numbers, size = GGML_QUANT_SIZES[self.kind]
        return self.shape[-1] // numbers * size

    @property
    def nbytes(self) -> int:
        return prod(self.shape[:-1]) * self.row_bytes


def read_header(path: Path) -> tuple[dict[str, Any], list[StoredTensor]]:
    """The metadata, and the tensors in the order of the header, every one of them whole. Errors: BadHeader, OSError."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise BadHeader("is not a GGUF file. Name a .gguf file, or the folder of a checkpoint.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).read()


class _Reader:
    def __init__(self, content: mmap.mmap):
        self._content, self._at, self._values = content, 4, 0

    def read(self) -> tuple[dict[str, Any], list[StoredTensor]]:
        version = self._unpack("I")
        if version & 0xFFFF == 0:
            raise BadHeader("is a big-endian file: take the little-endian one.")
        if version not in (2, 3):
            raise BadHeader(f"is of version {version} of the format, and only 2 and 3 are known.")
        tensor_count, count = self._unpack("Q"), self._unpack("Q")
        if tensor_count > MAX_TENSORS:
            raise BadHeader(f"is damaged: it says that it has {tensor_count:,} tensors.")
        metadata: dict[str, Any] = {}
        for _ in range(self._counted(count)):
            key = self._text()
            if key in metadata:
                raise BadHeader(f"is damaged: it has the key {key:.100} twice.")
            metadata[key] = self._value(self._type())
        tensors = [self._tensor() for _ in range(tensor_count)]
        return metadata, self._placed(tensors, self._alignment(metadata))

    def _placed(self, tensors: list[StoredTensor], alignment: int) -> list[StoredTensor]:
        """The tensors with offsets from the beginning of the file, in which each has a place of its own."""
        start = -(-self._at // alignment) * alignment
        placed = [StoredTensor(t.name, t.kind, t.shape, start + t.offset) for t in tensors]
        for tensor in placed:
            if (tensor.offset - start) % alignment:
                raise BadHeader(f"is damaged: its tensor {tensor.name} is not aligned.")
            if tensor.offset + tensor.nbytes > len(self._content):
                raise BadHeader(
                    f"is truncated: its tensor {tensor.name} extends past the end of the file. Download it again."
                )
        for one, other in pairwise(sorted(placed, key=lambda tensor: tensor.offset)):
            if one.offset + one.nbytes > other.offset:
                raise BadHeader(f"is damaged: its tensors {one.name} and {other.name} overlap.")
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise BadHeader("is damaged: it has two tensors of one name.")
        return placed

    def _alignment(self, metadata: dict[str, Any]) -> int:
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
            raise BadHeader(f"is damaged: its alignment is {alignment!r:.100}.")
        return alignment

    def _tensor(self) -> StoredTensor:
        """Its offset is that within the tensors' data."""
        name, dimensions = self._text(), self._unpack("I")
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise BadHeader(f"is damaged: its tensor {name:.100} has {dimensions:,} dimensions.")
        shape = tuple(self._unpack("Q") for _ in range(dimensions))[::-1]
        kind, offset = self._unpack("I"), self._unpack("Q")
        if not all(0 < size <= MAX_DIMENSION for size in shape):
            raise BadHeader(f"is damaged: its tensor {name:.100} has the shape {list(shape)}.")
        try:
            known = GGMLQuantizationType(kind)
        except ValueError:
            raise BadHeader(
                f"has a tensor {name:.100} of type {kind}, which is a type that is not known here."
            ) from None
        if shape[-1] % GGML_QUANT_SIZES[known][0]:
            raise BadHeader(f"is damaged: the rows of its tensor {name:.100} are no whole blocks of {known.name}.")
        return StoredTensor(name, known, shape, offset)

    def _value(self, kind: Type) -> Any:
        if kind == Type.STRING:
            return self._text()
        if kind != Type.ARRAY:
            return self._numbers(kind, 1)[0]
        element, count = self._type(), self._counted(self._unpack("Q"))
        if element == Type.ARRAY:
            raise BadHeader("has an array of arrays, which no Llama has.")
        return [self._text() for _ in range(count)] if element == Type.STRING else self._numbers(element, count)

    def _type(self) -> Type:
        value = self._unpack("I")
        try:
            return Type(value)
        except ValueError:
            raise BadHeader(f"is damaged: it has a value of type {value}.") from None

    def _numbers(self, kind: Type, count: int) -> list[Any]:
        dtype = np.dtype(_NUMBERS[kind])
        data = self._take(count * dtype.itemsize)
        numbers: list[Any] = (
            np.frombuffer(data, np.uint8) != 0 if kind == Type.BOOL else np.frombuffer(data, dtype)
        ).tolist()
        return numbers

    def _text(self) -> str:
        try:
            return self._take(self._unpack("Q")).decode()
        except UnicodeDecodeError as error:
            raise BadHeader("is damaged: it has text that is not UTF-8.") from error

    def _unpack(self, form: str) -> int:
        (value,) = struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))
        return int(value)

    def _take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self._at
        if count > len(self._content) - start:
            raise BadHeader("is truncated or damaged. Download it again.")
        if start + count > HEADER_BYTES:
            raise BadHeader(f"is damaged: its header has more than {HEADER_BYTES:,} bytes.")
        self._at += count
        return self._content[start : self._at]

    def _counted(self, count: int) -> int:
        """The count of values that follow."""
        self._values += count
        if self._values > MAX_VALUES:
            raise BadHeader(f"is damaged: it says that it has more than {MAX_VALUES:,} values.")
        return count
