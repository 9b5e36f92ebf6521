"""Writing a .pte: the program at once, the weights in any order, each where it belongs."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from torch import Tensor

from ..errors import ConversionFailed
from .graph import Layout, Weight

COPIED = 1 << 24
"""Bytes that are copied at a time."""


class ProgramFile:
    """A .pte that is being written. Nothing of it is mapped or kept in memory; several threads may write at once."""

    def __init__(self, path: Path, layout: Layout, weights: Mapping[str, Weight]):
        self._layout, self._weights = layout, weights
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.truncate(self._file, layout.size)
            for offset, data in layout.fixed:
                self._put(data, offset)
        except BaseException:
            os.close(self._file)
            raise

    def write(self, name: str, first: int, numbers: Tensor) -> None:
        """Rows of a weight from the row `first` on."""
        weight = self._weights[name]
        row = weight.nbytes // weight.shape[0]
        self._put(memoryview(numbers.contiguous().numpy().data).cast("B"), self._layout.offsets[name] + first * row)

    def copy(self, name: str, source: IO[bytes], offset: int) -> None:
        """A whole weight, as another program has it at `offset`."""
        at, left = self._layout.offsets[name], self._weights[name].nbytes
        while left:
            data = os.pread(source.fileno(), min(left, COPIED), offset)
            if not data:
                raise ConversionFailed(f"{source.name} has become shorter while it was read. Convert again.")
            self._put(data, at)
            at, offset, left = at + len(data), offset + len(data), left - len(data)

    def _put(self, data: bytes | memoryview, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                os.fsync(self._file)
        finally:
            os.close(self._file)
