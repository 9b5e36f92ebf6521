"""The program of a model whose weights are packed, written instruction by instruction.

Such a program is six operators in a pattern that every layer repeats; `traced/llama.py` computes the same in torch.

Activations live in one arena. The residual stream alternates between two places, since no operator may overwrite what
it reads; everything else is needed by the next instruction or two only, and shares the space after them.
"""

from executorch.exir.schema import Bool, Double, Int, ScalarType

from ..models.architecture import MAX_ROWS, MAX_TOKENS, Architecture, cache_tokens, head_bytes
from ..models.recipes import LayerSchemes, Scheme, Schemes
from .graph import ACTIVATION_ARENA, ITEM_BYTES, TABLES, TIED, Graph
from .instructions import Instructions, room

CACHES = {8: ScalarType.CHAR, 16: ScalarType.HALF, 32: ScalarType.FLOAT}
"""What a KV cache consists of, by the bits of its numbers."""


def packed_graph(architecture: Architecture, schemes: Schemes, slots: int, context: int) -> Graph:
    """The graph of a Llama of this shape, with KV caches for `slots` sequences of `context` tokens each.

    Inputs, result and the names of weights are those of `traced.llama.Llama`. Errors: ConversionFailed where a weight
    does not come in the blocks that its scheme needs.
    """
    return _Writer(architecture, schemes, slots, context).graph()


class _Writer(Instructions):
    def __init__(self, architecture: Architecture, schemes: Schemes, slots: int, context: int):
        super().__init__()
        self._architecture, self._schemes = architecture, schemes
        kind = CACHES[schemes.cache_bits]
        size = head_bytes(architecture.head_dim, schemes.cache_bits) // ITEM_BYTES[kind]
        self._cache_kind = kind
        self._cache_shape = slots, 2, architecture.kv_heads, cache_tokens(context), size
        self._tokens, self._positions, self._sequences, self._rows = (
            self.input(ScalarType.LONG, shape, dynamic=True)
            for shape in [(1, MAX_TOKENS), (MAX_TOKENS,), (MAX_TOKENS,), (MAX_ROWS,)]
        )
        self._tables = [self.weight(name, "float32", (context, architecture.head_dim)) for name in TABLES]
        self._eps = self.value(Double(architecture.rms_norm_eps))
        self._no, self._yes = self.value(Bool(False)), self.value(Bool(True))

    def graph(self) -> Graph:
        a, schemes = self._architecture, self._schemes
        even, odd, scratch = (i * room(MAX_TOKENS, a.hidden) for i in range(3))
        weight = self._packed("embed", schemes.embedding, a.vocabulary, a.hidden)
        x = self._result("falcon::embedding", [self._tokens, weight], even, MAX_TOKENS, a.hidden)
        for i, layer in enumerate(schemes.layers):
            x = self._layer(f"layers.{i}.", layer, x, even, odd, scratch)
        x = self._result("aten::index_select", [x, self.value(Int(1)), self._rows], odd, MAX_ROWS, a.hidden)
        weight = self._packed("head", schemes.head, a.vocabulary, a.hidden)
        logits = self._normed(x, "norm", weight, scratch, MAX_ROWS, a.vocabulary, schemes.precise_head)
        program = self.program([self._tokens, self._positions, self._sequences, self._rows], logits)
        return Graph(program, self.weights, self.constants, same=TIED if schemes.shared else {})

    def _layer(self, name: str, schemes: LayerSchemes, x: int, even: int, odd: int, scratch: int) -> int:
        """Attention takes the residual stream from one place to the other, and the MLP takes it back."""
        hidden, shapes = self._architecture.hidden, self._architecture.linear
        after_qkv = scratch + room(MAX_TOKENS, shapes["qkv"][0])
        qkv, out, gate_up, down = (
            self._packed(name + part, getattr(schemes, part), *shape) for part, shape in shapes.items()
        )
        y = self._normed(x, name + "attention_norm", qkv, scratch, MAX_TOKENS, shapes["qkv"][0])
        cache = self.cache(self._cache_shape, self._cache_kind)
        arguments = [y, self._positions, self._sequences, *self._tables, cache]
        y = self._result("falcon::attention", arguments, after_qkv, MAX_TOKENS, shapes["out"][1])
        x = self._result("falcon::linear_add", [y, out, x], odd, MAX_TOKENS, hidden)
        y = self._normed(x, name + "mlp_norm", gate_up, scratch, MAX_TOKENS, shapes["gate_up"][0])
        return self._result("falcon::gated_linear_add", [y, down, x], even, MAX_TOKENS, hidden)

    def _normed(
        self, x: int, norm: str, weight: int, offset: int, rows: int, outputs: int, precise: bool = False
    ) -> int:
        norm_weight = self.weight(f"{norm}.weight", "float32", (self._architecture.hidden,))
        arguments = [x, norm_weight, self._eps, weight, self.value(Int(outputs)), self._yes if precise else self._no]
        return self._result("falcon::norm_linear", arguments, offset, rows, outputs)

    def _result(self, operator: str, arguments: list[int], offset: int, rows: int, size: int) -> int:
        """The result, [1, up to `rows`, size] at `offset` in the arena, of an operator. It takes the tensor for it as
        its last argument, and gives that."""
        result = self.placed(ACTIVATION_ARENA, offset, (1, rows, size), dynamic=True)
        self.call(operator, "out", [*arguments, result, result])
        return result

    def _packed(self, name: str, scheme: Scheme, outputs: int, inputs: int) -> int:
        return self.weight(f"{name}.weight", "uint8", scheme.shape(outputs, inputs))
