"""The program of a model whose weights are packed, written instruction by instruction.

Such a program is six operators in a pattern that every layer repeats (`traced/llama.py` computes the same in torch), so
there is nothing for an exporter to find out: no model is built, nothing is traced, and a hundred layers take no longer
than two.

Activations live in one arena. The residual stream alternates between two places, since no operator may overwrite what
it reads; everything else is needed by the next instruction or two only, and shares the space after them.
"""

from math import prod

from executorch.exir._serialize.padding import aligned_size
from executorch.exir.schema import (
    AllocationDetails,
    Bool,
    Buffer,
    Chain,
    ContainerMetadata,
    Double,
    EValue,
    ExecutionPlan,
    Instruction,
    Int,
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

from ..models.architecture import MAX_ROWS, MAX_TOKENS, Architecture, cache_tokens, head_bytes
from ..models.recipes import LayerSchemes, Scheme, Schemes
from .graph import ACTIVATION_ARENA, CACHE_ARENA, ITEM_BYTES, TABLES, TIED, Graph, Stored, Weight, allocation

OPERATORS = (
    "falcon::embedding",
    "falcon::norm_linear",
    "falcon::attention",
    "falcon::linear_add",
    "falcon::gated_linear_add",
    "aten::index_select",
)
"""All in the form `out`, which takes the tensor for the result as its last argument, and gives that."""
CACHES = {8: ScalarType.CHAR, 16: ScalarType.HALF, 32: ScalarType.FLOAT}
"""What a KV cache consists of, by the bits of its numbers."""


def packed_graph(architecture: Architecture, schemes: Schemes, slots: int, context: int) -> Graph:
    """The graph of a Llama of this shape, with KV caches for `slots` sequences of `context` tokens each.

    Inputs, result and the names of weights are those of `traced.llama.Llama`. Errors: ConversionFailed where a weight
    does not come in the blocks that its scheme needs.
    """
    return _Writer(architecture, schemes, slots, context).graph()


class _Writer:
    """Values and instructions of one program, as they are written. A value is known by its index."""

    def __init__(self, architecture: Architecture, schemes: Schemes, slots: int, context: int):
        self._architecture, self._schemes = architecture, schemes
        self._values: list[EValue] = []
        self._instructions: list[Instruction] = []
        self._weights: dict[str, Weight] = {}
        self._constants: dict[int, str] = {}
        self._arenas = {ACTIVATION_ARENA: 0, CACHE_ARENA: 0}
        kind = CACHES[schemes.cache_bits]
        size = head_bytes(architecture.head_dim, schemes.cache_bits) // ITEM_BYTES[kind]
        self._cache_kind = kind
        self._cache_shape = slots, 2, architecture.kv_heads, cache_tokens(context), size
        self._tokens, self._positions, self._sequences, self._rows = (
            self._value(_tensor(ScalarType.LONG, shape, TensorShapeDynamism.DYNAMIC_BOUND))
            for shape in [(1, MAX_TOKENS), (MAX_TOKENS,), (MAX_TOKENS,), (MAX_ROWS,)]
        )
        self._tables = [self._weight(name, "float32", (context, architecture.head_dim)) for name in TABLES]
        self._eps = self._value(Double(architecture.rms_norm_eps))
        self._no, self._yes = self._value(Bool(False)), self._value(Bool(True))

    def graph(self) -> Graph:
        a, schemes = self._architecture, self._schemes
        even, odd, scratch = (i * _room(MAX_TOKENS, a.hidden) for i in range(3))
        weight = self._packed("embed", schemes.embedding, a.vocabulary, a.hidden)
        x = self._call("falcon::embedding", [self._tokens, weight], even, MAX_TOKENS, a.hidden)
        for i, layer in enumerate(schemes.layers):
            x = self._layer(f"layers.{i}.", layer, x, even, odd, scratch)
        x = self._call("aten::index_select", [x, self._value(Int(1)), self._rows], odd, MAX_ROWS, a.hidden)
        weight = self._packed("head", schemes.head, a.vocabulary, a.hidden)
        logits = self._normed(x, "norm", weight, scratch, MAX_ROWS, a.vocabulary, precise=True)
        same = TIED if schemes.shared else {}
        return Graph(self._program(logits), self._weights, self._constants, same=same)

    def _layer(self, name: str, schemes: LayerSchemes, x: int, even: int, odd: int, scratch: int) -> int:
        """Attention takes the residual stream from one place to the other, and the MLP takes it back."""
        hidden, shapes = self._architecture.hidden, self._architecture.linear
        after_qkv = scratch + _room(MAX_TOKENS, shapes["qkv"][0])
        qkv, out, gate_up, down = (
            self._packed(name + part, getattr(schemes, part), *shape) for part, shape in shapes.items()
        )
        y = self._normed(x, name + "attention_norm", qkv, scratch, MAX_TOKENS, shapes["qkv"][0])
        arguments = [y, self._positions, self._sequences, *self._tables, self._cache()]
        y = self._call("falcon::attention", arguments, after_qkv, MAX_TOKENS, shapes["out"][1])
        x = self._call("falcon::linear_add", [y, out, x], odd, MAX_TOKENS, hidden)
        y = self._normed(x, name + "mlp_norm", gate_up, scratch, MAX_TOKENS, shapes["gate_up"][0])
        return self._call("falcon::gated_linear_add", [y, down, x], even, MAX_TOKENS, hidden)

    def _normed(
        self, x: int, norm: str, weight: int, offset: int, rows: int, outputs: int, precise: bool = False
    ) -> int:
        norm_weight = self._weight(f"{norm}.weight", "float32", (self._architecture.hidden,))
        arguments = [x, norm_weight, self._eps, weight, self._value(Int(outputs)), self._yes if precise else self._no]
        return self._call("falcon::norm_linear", arguments, offset, rows, outputs)

    def _call(self, operator: str, arguments: list[int], offset: int, rows: int, size: int) -> int:
        """The result, [1, up to `rows`, size] at `offset` in the arena, of an operator."""
        shape = 1, rows, size
        result = self._placed(ACTIVATION_ARENA, offset, ScalarType.FLOAT, shape, TensorShapeDynamism.DYNAMIC_BOUND)
        self._instructions.append(Instruction(KernelCall(OPERATORS.index(operator), [*arguments, result, result])))
        return result

    def _cache(self) -> int:
        """A KV cache of its own."""
        offset = aligned_size(self._arenas[CACHE_ARENA], ALIGNMENT)
        return self._placed(CACHE_ARENA, offset, self._cache_kind, self._cache_shape, TensorShapeDynamism.STATIC)

    def _placed(
        self, arena: int, offset: int, kind: ScalarType, shape: tuple[int, ...], dynamism: TensorShapeDynamism
    ) -> int:
        """A tensor at `offset` in an arena, which is as large as the last of its tensors needs."""
        self._arenas[arena] = max(self._arenas[arena], offset + prod(shape) * ITEM_BYTES[kind])
        return self._value(_tensor(kind, shape, dynamism, place=allocation(arena, offset)))

    def _packed(self, name: str, scheme: Scheme, outputs: int, inputs: int) -> int:
        return self._weight(f"{name}.weight", "uint8", scheme.shape(outputs, inputs))

    def _weight(self, name: str, stored: Stored, shape: tuple[int, ...]) -> int:
        index = len(self._constants) + 1  # A tensor with the index 0 is no constant.
        self._weights[name], self._constants[index] = Weight(stored, shape), name
        kind = ScalarType.BYTE if stored == "uint8" else ScalarType.FLOAT
        return self._value(_tensor(kind, shape, TensorShapeDynamism.STATIC, buffer=index))

    def _value(self, content: KernelTypes) -> int:
        self._values.append(EValue(content))
        return len(self._values) - 1

    def _program(self, logits: int) -> Program:
        inputs = [self._tokens, self._positions, self._sequences, self._rows]
        plan = ExecutionPlan(
            name="forward",
            container_meta_type=ContainerMetadata(
                treespec_dumps(tree_structure((tuple(inputs), {}))), treespec_dumps(tree_structure(logits))
            ),
            values=self._values,
            inputs=inputs,
            outputs=[logits],
            chains=[Chain([], [], self._instructions, None)],
            operators=[Operator(name, "out") for name in OPERATORS],
            delegates=[],
            non_const_buffer_sizes=[0, self._arenas[ACTIVATION_ARENA], self._arenas[CACHE_ARENA]],
        )
        constants = [Buffer(b"") for _ in range(len(self._constants) + 1)]
        return Program(0, [plan], constants, [], [], SubsegmentOffsets(0, []))


def _room(rows: int, size: int) -> int:
    """Bytes of float32 [rows, size], up to where the next tensor may begin."""
    return aligned_size(rows * size * ITEM_BYTES[ScalarType.FLOAT], ALIGNMENT)


def _tensor(
    kind: ScalarType,
    shape: tuple[int, ...],
    dynamism: TensorShapeDynamism,
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
        shape_dynamism=dynamism,
    )
