"""A program without its weights, and the `.pte` file that both make together.

Two models of one shape and recipe have the same program, and differ in the bytes of their weights. So the program is
made first, with nothing but the size of each weight; what comes out of a checkpoint is then written where it belongs,
piece by piece and in any order.

The format of a .pte (extended header, program flatbuffer, segments) is ExecuTorch's; the parts of its serializer that
are used here are private, and pinned with it.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from executorch.exir._serialize._flatbuffer_program import _program_to_flatbuffer
from executorch.exir._serialize._program import _ExtendedHeader, _insert_flatbuffer_header
from executorch.exir._serialize.padding import aligned_size, pad_to
from executorch.exir.schema import (
    AllocationDetails,
    BackendDelegateDataReference,
    DataLocation,
    DataSegment,
    NamedData,
    Program,
    ScalarType,
    SubsegmentOffsets,
)
from executorch.exir.tensor import ALIGNMENT

Stored = Literal["uint8", "int8", "int4", "bfloat16", "float32"]
"""How a weight's numbers lie in the file: little-endian, row by row. What is packed (recipes.py) is bytes; int4 is two
in a byte, the earlier one in the low half, each plus 8: XNNPACK's order."""
BITS: dict[Stored, int] = {"uint8": 8, "int8": 8, "int4": 4, "bfloat16": 16, "float32": 32}
ITEM_BYTES = {ScalarType.FLOAT: 4, ScalarType.HALF: 2, ScalarType.CHAR: 1}
SEGMENT_ALIGNMENT = 128
ACTIVATION_ARENA, CACHE_ARENA = 1, 2
"""Memory ids. The second holds the KV caches and nothing else."""
TABLES = ("cos", "sin")
"""RoPE's tables [context, head_dim]: with the KV caches all that depends on the context."""

TIED: Mapping[str, str] = {"head.weight": "embed.weight"}
"""The `same` of a graph whose output layer is its embedding."""


@dataclass(frozen=True)
class Weight:
    stored: Stored
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * BITS[self.stored] // 8


@dataclass(frozen=True)
class Layout:
    """A .pte file: the bytes that stand in front of the weights and between them, and where each weight belongs."""

    size: int
    fixed: list[tuple[int, bytes]]
    """Offset and bytes of everything that is no weight."""
    offsets: dict[str, int]
    """Offset of each weight in the file."""


@dataclass
class Graph:
    """A program whose weights are known by name (that of the Llama's state dict), size and place, and not by value."""

    program: Program
    """Delegates are inline, constants that are weights are empty, and so is everything about segments."""
    weights: dict[str, Weight]
    constants: dict[int, str]
    """Weights among the program's constants, by their index in `constant_buffer`."""
    named: dict[str, str | bytes] = field(default_factory=dict)
    """What the delegates look up by key: the name of a weight, or bytes."""
    same: Mapping[str, str] = field(default_factory=dict)
    """Weights that are another one, by name, and take no place of their own."""

    def layout(self) -> Layout:
        """The file that holds this program and its weights, as ExecuTorch's serializer would lay it out."""
        program, segments = copy.deepcopy(self.program), _Segments(self)
        buffers = enumerate(program.constant_buffer)
        starts = segments.add(self.constants.get(index, buffer.storage) for index, buffer in buffers)
        program.constant_buffer = []
        program.constant_segment = SubsegmentOffsets(segment_index=0, offsets=starts)
        for i, blob in enumerate(program.backend_delegate_data):
            segments.add([blob.data])
            for delegate in program.execution_plan[0].delegates:
                if delegate.processed == BackendDelegateDataReference(DataLocation.INLINE, i):
                    delegate.processed = BackendDelegateDataReference(DataLocation.SEGMENT, len(segments.found) - 1)
        program.backend_delegate_data = []
        program.named_data = []
        for key, part in self.named.items():
            segments.add_named(part)
            program.named_data.append(NamedData(key, len(segments.found) - 1))
        program.segments = segments.found
        head, base = _head(program, segments.end)
        return Layout(
            size=base + segments.end,
            fixed=[(0, head), *((base + offset, part) for offset, part in segments.fixed if part)],
            offsets={name: base + offset for name, offset in segments.offsets.items()},
        )

    def parts(self, layout: Layout) -> dict[str, int]:
        """Bytes of the file by what they are for."""
        sizes = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head", "tables"), 0)
        for name, weight in self.weights.items():
            sizes[_part(name)] += 0 if name in self.same else weight.nbytes
        return sizes | {"graph": layout.size - sum(sizes.values())}


class _Segments:
    """Places weights and bytes one after the other; offsets count from the first segment."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self.found: list[DataSegment] = []
        self.fixed: list[tuple[int, bytes]] = []
        self.offsets: dict[str, int] = {}
        self.end = 0

    def add(self, parts: Iterable[str | bytes]) -> list[int]:
        """A segment of weights, by name, and bytes; gives their offsets in it."""
        start = self.end = aligned_size(self.end, SEGMENT_ALIGNMENT)
        places = [self._place(part) for part in parts]
        self.found.append(DataSegment(start, self.end - start))
        return [place - start for place in places]

    def add_named(self, part: str | bytes) -> None:
        """A segment of one weight or bytes, which lies over another one where it is the same."""
        if isinstance(part, str) and part in self._graph.same:
            self.found.append(DataSegment(self._place(part), self._graph.weights[part].nbytes))
        else:
            self.add([part])

    def _place(self, part: str | bytes) -> int:
        if isinstance(part, str) and part in self._graph.same:
            self.offsets[part] = self.offsets[self._graph.same[part]]
            return self.offsets[part]
        place = aligned_size(self.end, ALIGNMENT)
        if isinstance(part, str):
            self.offsets[part] = place
            self.end = place + self._graph.weights[part].nbytes
        else:
            self.fixed.append((place, part))
            self.end = place + len(part)
        return place


def _head(program: Program, segments_size: int) -> tuple[bytes, int]:
    """What a file with this program begins with, and the offset of the segments after it."""
    flatbuffer = _program_to_flatbuffer(program)
    header_size = aligned_size(_ExtendedHeader.EXPECTED_LENGTH, flatbuffer.max_alignment)
    program_size = header_size + len(flatbuffer.data)
    base = aligned_size(program_size, SEGMENT_ALIGNMENT)
    header = _ExtendedHeader(program_size=program_size, segment_base_offset=base, segment_data_size=segments_size)
    padded = pad_to(header.to_bytes(), header_size)
    return _insert_flatbuffer_header(flatbuffer.data, r"ET[0-9a-zA-Z][0-9a-zA-Z]", padded), base


def _part(name: str) -> str:
    if "norm" in name:
        return "norms"
    for part, beginnings in (("embedding", ("embed.",)), ("head", ("head.",)), ("tables", TABLES)):
        if name.startswith(beginnings):
            return part
    return "attention" if ".qkv." in name or ".out." in name else "mlp"


def allocation(arena: int, offset: int) -> AllocationDetails:
    return AllocationDetails(arena, offset & 0xFFFFFFFF, offset >> 32)
