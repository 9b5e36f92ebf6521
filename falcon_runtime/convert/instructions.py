"""Writing a program instruction by instruction, where nothing has to be found out by an exporter: no model is built,
nothing is traced, and a hundred layers take no longer than two."""

from collections.abc import Sequence
from math import prod

from executorch.exir._serialize.padding import aligned_size
from executorch.exir.schema import (
    AllocationDetails,
    BackendDelegate,
    BackendDelegateDataReference,
    BackendDelegateInlineData,
    Buffer,
    Chain,
    ContainerMetadata,
    DataLocation,
    DelegateCall,
    EValue,
    ExecutionPlan,
    Instruction,
    KernelCall,
    KernelTypes,
    Operator,
    Program,
    ScalarType,
    SubsegmentOffsets,
    Tensor,
    TensorShapeDynamism,
)
from executorch.exir.tensor import ALIGNMENT
from torch.utils._pytree import tree_structure, treespec_dumps

from .graph import ACTIVATION_ARENA, CACHE_ARENA, ITEM_BYTES, Stored, Weight, allocation

KINDS = {"uint8": ScalarType.BYTE, "int8": ScalarType.CHAR, "float32": ScalarType.FLOAT}
"""What a weight that an operator takes consists of, by how it is stored."""


class Instructions:
    """Values and instructions of one program, as they are written. A value is known by its index."""

    def __init__(self) -> None:
        self.weights: dict[str, Weight] = {}
        self.constants: dict[int, str] = {}
        self._values: list[EValue] = []
        self._instructions: list[Instruction] = []
        self._operators: list[tuple[str, str]] = []
        self._blobs: list[bytes] = []
        self._arenas = {ACTIVATION_ARENA: 0, CACHE_ARENA: 0}

    def value(self, content: KernelTypes) -> int:
        self._values.append(EValue(content))
        return len(self._values) - 1

    def input(self, kind: ScalarType, shape: tuple[int, ...], dynamic: bool) -> int:
        """A tensor of at most this shape, or of just this one."""
        return self.value(_tensor(kind, shape, dynamic))

    def placed(
        self, arena: int, offset: int, shape: tuple[int, ...], dynamic: bool, kind: ScalarType = ScalarType.FLOAT
    ) -> int:
        """A tensor at `offset` in an arena, which is as large as the last of its tensors needs."""
        self._arenas[arena] = max(self._arenas[arena], offset + prod(shape) * ITEM_BYTES[kind])
        return self.value(_tensor(kind, shape, dynamic, place=allocation(arena, offset)))

    def cache(self, shape: tuple[int, ...], kind: ScalarType) -> int:
        """A KV cache of its own."""
        return self.placed(CACHE_ARENA, aligned_size(self._arenas[CACHE_ARENA], ALIGNMENT), shape, False, kind)

    def weight(self, name: str, stored: Stored, shape: tuple[int, ...], seen: tuple[int, ...] = ()) -> int:
        """`seen` is the shape in which operators see it, where that is another one."""
        index = len(self.constants) + 1  # A tensor with the index 0 is no constant.
        self.weights[name], self.constants[index] = Weight(stored, shape), name
        return self.value(_tensor(KINDS[stored], seen or shape, False, buffer=index))

    def call(self, operator: str, overload: str, arguments: Sequence[int]) -> None:
        if (operator, overload) not in self._operators:
            self._operators.append((operator, overload))
        index = self._operators.index((operator, overload))
        self._instructions.append(Instruction(KernelCall(index, list(arguments))))

    def delegate(self, blob: bytes, arguments: Sequence[int]) -> None:
        """XNNPACK computes what `blob` says (xnnpack.py)."""
        self._blobs.append(blob)
        self._instructions.append(Instruction(DelegateCall(len(self._blobs) - 1, list(arguments))))

    def program(self, inputs: Sequence[int], output: int, others: Sequence[ExecutionPlan] = ()) -> Program:
        """With the method `forward`, and `others`."""
        plan = ExecutionPlan(
            name="forward",
            container_meta_type=ContainerMetadata(
                treespec_dumps(tree_structure((tuple(inputs), {}))), treespec_dumps(tree_structure(output))
            ),
            values=self._values,
            inputs=list(inputs),
            outputs=[output],
            chains=[Chain([], [], self._instructions, None)],
            operators=[Operator(*operator) for operator in self._operators],
            delegates=[
                BackendDelegate("XnnpackBackend", BackendDelegateDataReference(DataLocation.INLINE, i), [])
                for i in range(len(self._blobs))
            ],
            non_const_buffer_sizes=[0, self._arenas[ACTIVATION_ARENA], self._arenas[CACHE_ARENA]],
        )
        constants = [Buffer(b"") for _ in range(len(self.constants) + 1)]
        blobs = [BackendDelegateInlineData(blob) for blob in self._blobs]
        return Program(0, [plan, *others], constants, blobs, [], SubsegmentOffsets(0, []))


def room(*shape: int) -> int:
    """Bytes of float32 numbers, up to where the next tensor may begin."""
    return aligned_size(prod(shape) * ITEM_BYTES[ScalarType.FLOAT], ALIGNMENT)


def _tensor(
    kind: ScalarType,
    shape: tuple[int, ...],
    dynamic: bool,
    buffer: int = 0,
    place: AllocationDetails | None = None,
) -> Tensor:
    """Contiguous; a dynamic one has at most this shape."""
    return Tensor(
        scalar_type=kind,
        storage_offset=0,
        sizes=list(shape),
        dim_order=list(range(len(shape))),
        requires_grad=False,
        layout=0,
        data_buffer_idx=buffer,
        allocation_info=place,
        shape_dynamism=TensorShapeDynamism.DYNAMIC_BOUND if dynamic else TensorShapeDynamism.STATIC,
    )
