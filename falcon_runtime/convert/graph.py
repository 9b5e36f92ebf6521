"""A program without its weights: what tracing and lowering make, kept apart from what a checkpoint brings.

Two models of one architecture and recipe have the same program. They differ in the bytes of their weights, which lie in
segments of the .pte file behind it, in how often the layer occurs, and in the length of the KV cache, which is memory
that is planned and not data. So a program is traced once for a short stack of layers; `stack.py` repeats the layer, and
this file gives it a context and a place in the file for every weight.

The format of a .pte (extended header, program flatbuffer, segments) is executorch's; the parts of its serializer that
are used here are private, and pinned with it.
"""

import copy
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from executorch.exir._serialize._flatbuffer_program import _program_to_flatbuffer
from executorch.exir._serialize._program import _ExtendedHeader, _insert_flatbuffer_header
from executorch.exir._serialize.padding import aligned_size, pad_to
from executorch.exir.schema import (
    AllocationDetails,
    BackendDelegateDataReference,
    DataLocation,
    DataSegment,
    IntList,
    NamedData,
    OptionalTensorList,
    Program,
    ScalarType,
    SubsegmentOffsets,
    TensorList,
)
from executorch.exir.schema import Tensor as TensorValue
from executorch.exir.tensor import ALIGNMENT

from ..architecture import cache_tokens

Stored = Literal["uint8", "float32"]
"""How a weight's numbers lie in the file: little-endian, row by row. What is packed (recipes.py) is bytes."""
MAX_ROWS = 64
"""Rows of logits in one forward; at Falcon3's vocabulary they are planned as 34 MB."""
SEGMENT_ALIGNMENT = 128
ACTIVATION_ARENA, CACHE_ARENA = 1, 2
"""Memory ids. The second holds the KV caches and nothing else (`share_mutable_buffers` in lower.py)."""
TABLES = ("cos", "sin")
"""RoPE's tables [context, head_dim]: with the KV caches all that depends on the context."""


Lists = IntList | TensorList | OptionalTensorList
"""Values of a program that name other values."""


@dataclass(frozen=True)
class Weight:
    stored: Stored
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * (1 if self.stored == "uint8" else 4)


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
    named: dict[str, str | bytes]
    """What the delegates look up by key: the name of a weight, or bytes. A weight's key ends with `key_of` its name."""
    layers: list[str] = field(default_factory=list)
    """The kind of each layer; layers of one kind have equal graphs."""

    @property
    def plan(self):  # type: ignore[no-untyped-def]
        return self.program.execution_plan[0]

    def tensors(self) -> Iterator[TensorValue]:
        for value in self.plan.values:
            if isinstance(value.val, TensorValue):
                yield value.val

    def rename(self, names: Mapping[str, str]) -> None:
        """Gives weights other names, all at once."""
        keys = {key_of(old).encode(): key_of(new).encode() for old, new in names.items()}
        self.weights = {names.get(name, name): weight for name, weight in self.weights.items()}
        self.constants = {index: names.get(name, name) for index, name in self.constants.items()}
        self.named = {
            rekey(key.encode(), keys).decode(): names.get(value, value) if isinstance(value, str) else value
            for key, value in self.named.items()
        }
        for delegate in self.program.backend_delegate_data:
            delegate.data = rekey(delegate.data, keys)

    def with_caches(self, slots: int, context: int) -> "Graph":
        """This graph with KV caches for `slots` sequences of `context` tokens."""
        graph = copy.deepcopy(self)
        end = 0
        for tensor in graph.tensors():
            if tensor.allocation_info and tensor.allocation_info.memory_id == CACHE_ARENA:
                tensor.sizes[0], tensor.sizes[3] = slots, cache_tokens(context)
                tensor.allocation_info = allocation(CACHE_ARENA, end)
                size = 2 if tensor.scalar_type == ScalarType.HALF else 4
                end = aligned_size(end + math.prod(tensor.sizes) * size, ALIGNMENT)
            elif graph.constants.get(tensor.data_buffer_idx) in TABLES:
                tensor.sizes[0] = context
        graph.plan.non_const_buffer_sizes[CACHE_ARENA] = end
        for name in TABLES:
            graph.weights[name] = Weight("float32", (context, graph.weights[name].shape[1]))
        return graph

    def layout(self, same: Mapping[str, str] = MappingProxyType({})) -> Layout:
        """The file that holds this program and its weights, as executorch's serializer would lay it out.

        But weights that are the `same` as a constant of the program, by name, take no place of their own.
        """
        program = copy.deepcopy(self.program)
        fixed: list[tuple[int, bytes]] = []  # Offsets from the first segment, until its own is known.
        offsets: dict[str, int] = {}
        end = 0

        def segment(parts: list[str | bytes]) -> list[int]:
            """Places a segment of these weights and bytes, and returns their offsets in it."""
            nonlocal end
            start = end = aligned_size(end, SEGMENT_ALIGNMENT)
            starts = []
            for part in parts:
                if isinstance(part, str) and part in same:
                    offsets[part] = offsets[same[part]]
                    starts.append(offsets[part] - start)
                    continue
                end = aligned_size(end - start, ALIGNMENT) + start
                starts.append(end - start)
                if isinstance(part, str):
                    offsets[part] = end
                    end += self.weights[part].nbytes
                else:
                    fixed.append((end, part))
                    end += len(part)
            program.segments.append(DataSegment(start, end - start))
            return starts

        buffers = enumerate(program.constant_buffer)
        starts = segment([self.constants.get(index, buffer.storage) for index, buffer in buffers])
        program.constant_buffer = []
        program.constant_segment = SubsegmentOffsets(segment_index=0, offsets=starts)
        for i, blob in enumerate(program.backend_delegate_data):
            segment([blob.data])
            for delegate in program.execution_plan[0].delegates:
                if delegate.processed == BackendDelegateDataReference(DataLocation.INLINE, i):
                    delegate.processed = BackendDelegateDataReference(DataLocation.SEGMENT, len(program.segments) - 1)
        program.backend_delegate_data = []
        program.named_data = []
        for key, part in self.named.items():
            if isinstance(part, str) and part in same:
                offsets[part] = offsets[same[part]]
                program.segments.append(DataSegment(offsets[part], self.weights[part].nbytes))
            else:
                segment([part])
            program.named_data.append(NamedData(key, len(program.segments) - 1))

        flatbuffer = _program_to_flatbuffer(program)
        header_size = aligned_size(_ExtendedHeader.EXPECTED_LENGTH, flatbuffer.max_alignment)
        program_size = header_size + len(flatbuffer.data)
        base = aligned_size(program_size, SEGMENT_ALIGNMENT)
        header = _ExtendedHeader(program_size=program_size, segment_base_offset=base, segment_data_size=end)
        head = _insert_flatbuffer_header(
            flatbuffer.data, r"ET[0-9a-zA-Z][0-9a-zA-Z]", pad_to(header.to_bytes(), header_size)
        )
        return Layout(
            size=base + end,
            fixed=[(0, head), *((base + offset, part) for offset, part in fixed if part)],
            offsets={name: base + offset for name, offset in offsets.items()},
        )

    def parts(self, layout: Layout, same: Mapping[str, str]) -> dict[str, int]:
        """Bytes of the file by what they are for."""
        sizes = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head", "tables"), 0)
        for name, weight in self.weights.items():
            sizes[_part(name)] += 0 if name in same else weight.nbytes
        return sizes | {"graph": layout.size - sum(sizes.values())}


def _part(name: str) -> str:
    if "norm" in name:
        return "norms"
    for part, beginnings in (("embedding", ("embed.",)), ("head", ("head.",)), ("tables", TABLES)):
        if name.startswith(beginnings):
            return part
    return "attention" if name.endswith((".qkv.weight", ".out.weight")) else "mlp"


def key_of(name: str) -> str:
    """By what a delegate finds this weight: 64 hexadecimal digits, as many as executorch's own key has, so that one can
    take the other's place inside a delegate."""
    return hashlib.sha256(name.encode()).hexdigest()


def rekey(data: bytes, keys: Mapping[bytes, bytes]) -> bytes:
    """`data` with keys replaced."""
    return re.sub(rb"[0-9a-f]{64}", lambda match: keys.get(match[0], match[0]), data)


def allocation(arena: int, offset: int) -> AllocationDetails:
    return AllocationDetails(arena, offset & 0xFFFFFFFF, offset >> 32)
