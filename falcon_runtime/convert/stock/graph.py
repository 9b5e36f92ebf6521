"""The program of a stock file, written instruction by instruction: what `llama.py` says in torch, in the form that
lowering it to XNNPACK would give, but for what an exporter cannot do. Between two attentions stands one delegate, with
the rest of one layer and the projections of the next; after the last one, only the last token goes on.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from executorch.exir.schema import Bool, Double, Int, Null, ScalarType
from torch import Tensor

from ...models.architecture import Architecture
from ...models.recipes import FP32, LayerSchemes, Scheme, Schemes
from ..graph import ACTIVATION_ARENA, TABLES, Graph, Stored
from ..instructions import Instructions, room
from .constants import methods
from .quantize import hadamard
from .schemes import INT8, StockScheme
from .xnnpack import Delegate, Keys, Value

TIED = {"head.weight": "embed.weight", "head.scale": "embed.scale"}
"""What is one where the output layer is the embedding."""
TO_THE_END = (1 << 63) - 1


def stock_graph(
    architecture: Architecture, schemes: Schemes, context: int, constants: Mapping[str, Any], identity: str
) -> Graph:
    """The graph of a Llama of this shape in the stock contract, with the constant methods `constants`. `identity` is
    what no model with other weights has. Errors: ConversionFailed where groups do not fit a weight."""
    return _Writer(architecture, schemes, context, constants["get_max_seq_len"], identity).graph(constants)


class _Writer(Instructions):
    def __init__(self, architecture: Architecture, schemes: Schemes, context: int, most: int, identity: str):
        super().__init__()
        self._architecture, self._schemes, self._context, self._most = architecture, schemes, context, most
        self._keys = Keys(identity)
        self._none, self._false, self._true = (self.value(fixed) for fixed in (Null(), Bool(False), Bool(True)))
        self._integers: dict[int, int] = {}
        self._end = 0

    def graph(self, constants: Mapping[str, Any]) -> Graph:
        a = self._architecture
        tokens = self.input(ScalarType.LONG, (1, self._most), dynamic=True)
        input_pos = self.input(ScalarType.LONG, (1,), dynamic=False)
        count, position, after = (self.value(Int(0)) for _ in range(3))
        self.call("aten::sym_size", "int", [tokens, self._integer(1), count])
        self.call("aten::_local_scalar_dense", "", [input_pos, position])
        self.call("executorch_prim::add", "Scalar", [position, count, after])
        tables = [self._rows(name, position, after) for name in TABLES]
        x, next_x = (self._activation(a.hidden) for _ in range(2))
        heads = [self._activation(count, a.head_dim) for count in (a.heads, a.kv_heads, a.kv_heads)]
        attended, done = self._activation(a.heads, a.head_dim), self._place((1,), dynamic=False)
        caches = 1, self._context, a.kv_heads, a.head_dim

        self._embed(tokens, x)
        x = self._before_layers(x, next_x, tables, heads)
        for i in range(a.layers):
            keys, values = (self.cache(caches, ScalarType.FLOAT) for _ in range(2))
            for new, cache in zip(heads[1:], (keys, values), strict=True):
                self.call("llama::update_cache", "out", [new, cache, position, done, done])
            how = [position, self._none, self.value(Double(0.0)), self._true, self._none]
            self.call("llama::custom_sdpa", "out", [heads[0], keys, values, *how, attended, attended])
            if i + 1 < a.layers:
                self._between_layers(i, [attended, x, *tables], [next_x, *heads])
                x, next_x = next_x, x
        logits = self._after_layers(attended, x)
        program = self.program([tokens, input_pos], logits, methods(constants))
        same = {name: other for name, other in TIED.items() if self._schemes.shared and name in self._keys.weights}
        return Graph(program, self.weights | self._keys.weights, self.constants, self._keys.named, same)

    def _embed(self, tokens: int, x: int) -> None:
        a, scheme = self._architecture, self._schemes.embedding
        if scheme == FP32:
            table = self.weight("embed.weight", "float32", (a.vocabulary, a.hidden))
            padding = [self._integer(-1), self._false, self._false]
            self.call("aten::embedding", "out", [table, tokens, *padding, x, x])
            return
        stock = cast(StockScheme, scheme)
        # In 4 bits two numbers are one byte.
        name, stored, columns = (
            ("embedding_4bit", "uint8", a.hidden // 2) if stock.bits == 4 else ("embedding_byte", "int8", a.hidden)
        )
        table = self.weight("embed.weight", cast(Stored, stored), (a.vocabulary, columns))
        scale = self.weight("embed.scale", "float32", (a.vocabulary, stock.groups(a.hidden)))
        how = [self._none, *map(self._integer, stock.range), tokens, self._integer(int(ScalarType.FLOAT))]
        self.call(f"quantized_decomposed::{name}", "dtype_out", [table, scale, *how, x, x])

    def _before_layers(self, x: int, next_x: int, tables: list[int], heads: list[int]) -> int:
        """The first layer's projections, and before them what is left of the embedding. Gives the place of `x`."""
        a, scheme = self._architecture, self._schemes.embedding
        part = _Part(a, self._most, self._keys)
        embedded, rope = part.input(a.hidden), [part.table(1, a.head_dim) for _ in TABLES]
        found = part.rotated(embedded, scheme) if isinstance(scheme, StockScheme) and scheme.rotated else embedded
        rotated = found is not embedded
        projected = part.projections(found, rope, 0, self._schemes.layers[0])
        outputs = [next_x, *heads] if rotated else heads
        for value in [found, *projected] if rotated else projected:
            part.output(value)
        self.delegate(part.blob(), [x, *tables, *outputs])
        return next_x if rotated else x

    def _between_layers(self, layer: int, inputs: list[int], outputs: list[int]) -> None:
        """What comes after a layer's attention, and the next layer's projections."""
        a, schemes = self._architecture, self._schemes.layers
        part = _Part(a, self._most, self._keys)
        attended, x = part.input(a.heads, a.head_dim), part.input(a.hidden)
        rope = [part.table(1, a.head_dim) for _ in TABLES]
        x = part.rest(attended, x, layer, schemes[layer])
        for value in (x, *part.projections(x, rope, layer + 1, schemes[layer + 1])):
            part.output(value)
        self.delegate(part.blob(), inputs + outputs)

    def _after_layers(self, attended: int, x: int) -> int:
        """The logits [1, vocabulary] of the last token."""
        a, schemes = self._architecture, self._schemes
        part = _Part(a, 1, self._keys)
        values = part.input(a.heads, a.head_dim), part.input(a.hidden)
        y = part.rest(*values, a.layers - 1, schemes.layers[-1])
        y = part.linear_of("head", part.norm(y, "norm"), schemes.head, a.vocabulary)
        part.output(part.row(y))
        last = [self._last(attended, a.heads, a.head_dim), self._last(x, a.hidden)]
        logits = self._place((1, a.vocabulary), dynamic=False)
        self.delegate(part.blob(), [*last, logits])
        return logits

    def _rows(self, table: str, position: int, after: int) -> int:
        """Of RoPE's tables, those of the new tokens, [tokens, 1, head_dim]."""
        width = self._architecture.head_dim
        whole = self.weight(table, "float32", (self._context, width), seen=(self._context, 1, width))
        rows = self._place((self._most, 1, width), dynamic=True)
        self._slice(whole, 0, position, after, rows)
        return rows

    def _last(self, x: int, *shape: int) -> int:
        """What the last token has."""
        row = self._place((1, 1, *shape), dynamic=False)
        self._slice(x, 1, self._integer(-1), self._integer(TO_THE_END), row)
        return row

    def _slice(self, x: int, axis: int, begin: int, end: int, result: int) -> None:
        arguments = [x, self._integer(axis), begin, end, self._integer(1), result, result]
        self.call("aten::slice_copy", "Tensor_out", arguments)

    def _activation(self, *shape: int) -> int:
        return self._place((1, self._most, *shape), dynamic=True)

    def _place(self, shape: tuple[int, ...], dynamic: bool) -> int:
        """A tensor of its own among the activations."""
        self._end += room(*shape)
        return self.placed(ACTIVATION_ARENA, self._end - room(*shape), shape, dynamic)

    def _integer(self, number: int) -> int:
        if number not in self._integers:
            self._integers[number] = self.value(Int(number))
        return self._integers[number]


class _Part(Delegate):
    """A delegate with parts of a Llama."""

    def __init__(self, architecture: Architecture, tokens: int, keys: Keys):
        super().__init__(tokens, keys)
        self._architecture = architecture

    def projections(self, x: Value, rope: list[Value], layer: int, schemes: LayerSchemes) -> list[Value]:
        """Queries, keys and values of `x` [1, tokens, hidden], each [1, tokens, heads, head_dim]."""
        a, name = self._architecture, f"layers.{layer}."
        qkv = self.linear_of(f"{name}qkv", self.norm(x, f"{name}attention_norm"), schemes.qkv, a.linear["qkv"][0])
        qkv = self.reshaped(qkv, a.heads + 2 * a.kv_heads, a.head_dim)
        turned = self.part(qkv, 0, a.heads + a.kv_heads)
        # A product with it swaps the halves of a head.
        swapped = self.linear(turned, self.numbers(torch.eye(a.head_dim).roll(a.head_dim // 2, 0)))
        cos, sin = rope
        turned = self.plus(self.times(turned, cos), self.times(swapped, sin))
        return [
            self.part(turned, 0, a.heads),
            self.part(turned, a.heads, a.heads + a.kv_heads),
            self.part(qkv, a.heads + a.kv_heads, a.heads + 2 * a.kv_heads),
        ]

    def rest(self, attended: Value, x: Value, layer: int, schemes: LayerSchemes) -> Value:
        """What a layer makes of `x` after its attention has given `attended`."""
        a, name = self._architecture, f"layers.{layer}."
        y = self.reshaped(attended, a.heads * a.head_dim)
        x = self.plus(x, self.linear_of(f"{name}out", y, schemes.out, a.hidden))
        y = self.norm(x, f"{name}mlp_norm")
        y = self.linear_of(f"{name}gate_up", y, schemes.gate_up, 2 * a.intermediate)
        gate, up = self.part(y, 0, a.intermediate), self.part(y, a.intermediate, 2 * a.intermediate)
        y = self.times(self.times(gate, self.sigmoid(gate)), up)
        return self.plus(x, self.linear_of(f"{name}down", y, schemes.down, a.hidden))

    def norm(self, x: Value, name: str) -> Value:
        """RMSNorm. XNNPACK takes no mean of a length that changes, but the product with a row."""
        width = x.shape[-1]
        mean = self.linear(self.times(x, x), self.numbers(torch.full((1, width), 1 / width)))
        eps = self.numbers(torch.tensor([self._architecture.rms_norm_eps]))
        return self.times(
            self.times(x, self.reciprocal_root(self.plus(mean, eps))), self.weight(f"{name}.weight", width)
        )

    def linear_of(self, name: str, x: Value, scheme: Scheme, outputs: int) -> Value:
        """The product of `x` [1, tokens, inputs] with the weight `name`, as it is stored (modules.py)."""
        inputs = x.shape[-1]
        if not isinstance(scheme, StockScheme):
            return self.linear(x, self.weight(f"{name}.weight", outputs, inputs))
        if scheme.rotated:
            x = self.rotated(x, scheme)
        weight = (
            self.int4_weight(name, outputs, inputs, scheme.groups(inputs))
            if scheme.group
            else self.int8_weight(name, outputs, inputs)
        )
        y = self.linear(self.quantized(x), weight)
        if not scheme.offsets:
            return y
        sums = self._of_blocks(x, torch.ones(1, scheme.group))
        return self.plus(y, self.linear_of(f"{name}.offset", sums, INT8, outputs))

    def rotated(self, x: Value, scheme: StockScheme) -> Value:
        block = scheme.block(x.shape[-1])
        return self._of_blocks(x, hadamard(block)) if block > 1 else x

    def _of_blocks(self, x: Value, matrix: Tensor) -> Value:
        """The products of `x`'s blocks with a matrix [outputs, block], one after the other."""
        outputs, block = matrix.shape
        count = x.shape[-1] // block
        y = self.linear(self.reshaped(x, count, block), self.numbers(matrix))
        return self.reshaped(y, count * outputs)
