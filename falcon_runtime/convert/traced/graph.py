"""A graph that an exporter made: one that knows the kind of each layer, and what the delegates call each weight."""

import copy
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from executorch.exir._serialize.padding import aligned_size
from executorch.exir.schema import ExecutionPlan, IntList, OptionalTensorList, TensorList
from executorch.exir.schema import Tensor as TensorValue
from executorch.exir.tensor import ALIGNMENT

from ...models.architecture import cache_tokens
from ..graph import CACHE_ARENA, ITEM_BYTES, TABLES, Graph, Weight, allocation

Lists = IntList | TensorList | OptionalTensorList
"""Values of a program that name other values."""


@dataclass
class TracedGraph(Graph):
    """A weight's key in `named` ends with `key_of` its name."""

    layers: list[str] = field(default_factory=list)
    """The kind of each layer; layers of one kind have equal graphs."""

    @property
    def plan(self) -> ExecutionPlan:
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

    def with_caches(self, slots: int, context: int) -> "TracedGraph":
        """This graph with KV caches for `slots` sequences of `context` tokens."""
        graph = copy.deepcopy(self)
        for tensor in graph.caches():
            tensor.sizes[0], tensor.sizes[3] = slots, cache_tokens(context)
        graph.place_caches()
        for tensor in graph.tensors():
            if graph.constants.get(tensor.data_buffer_idx) in TABLES:
                tensor.sizes[0] = context
        for name in TABLES:
            graph.weights[name] = Weight("float32", (context, graph.weights[name].shape[1]))
        return graph

    def caches(self) -> Iterator[TensorValue]:
        for tensor in self.tensors():
            if tensor.allocation_info and tensor.allocation_info.memory_id == CACHE_ARENA:
                yield tensor

    def place_caches(self) -> None:
        """Gives each KV cache a place of its own in their arena."""
        end = 0
        for tensor in self.caches():
            tensor.allocation_info = allocation(CACHE_ARENA, end)
            end = aligned_size(end + math.prod(tensor.sizes) * ITEM_BYTES[tensor.scalar_type], ALIGNMENT)
        self.plan.non_const_buffer_sizes[CACHE_ARENA] = end


def key_of(name: str) -> str:
    """By what a delegate finds this weight: 64 hexadecimal digits, as many as executorch's own key has, so that one can
    take the other's place inside a delegate."""
    return hashlib.sha256(name.encode()).hexdigest()


def rekey(data: bytes, keys: Mapping[bytes, bytes]) -> bytes:
    """`data` with keys replaced."""
    return re.sub(rb"[0-9a-f]{64}", lambda match: keys.get(match[0], match[0]), data)
