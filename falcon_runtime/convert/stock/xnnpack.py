"""The parts of a program that XNNPACK computes, written node by node.

The format, an XNNGraph with a header before it, is ExecuTorch's (backends/xnnpack/serialization/schema.fbs), and so is
the code that makes bytes of it, which is private and pinned with ExecuTorch. Weights are outside of it: XNNPACK looks
them up by keys.
"""

import hashlib
import math
from typing import NamedTuple

from executorch.backends.xnnpack.serialization import xnnpack_graph_schema as schema
from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import XNNDatatype, XNNQuantParams
from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import serialize_xnnpack_binary
from torch import Tensor

from ..graph import Stored, Weight

NONE = 0xFFFFFFFF
"""The id of no value."""
INPUT, OUTPUT = 1, 2
"""Flags of a value."""
OUTSIDE = 0xFFFFFFFFFFFFFFFF
"""The offset of data that has a key."""


class Value(NamedTuple):
    id: int
    shape: tuple[int, ...]
    """[1, tokens, …]: the most that it can have. Of weights [outputs, inputs], or [inputs]."""


class Delegate:
    """A graph for `tokens` tokens at most, as it is written. What it computes with is float32 unless it says otherwise.

    Its arguments in the program are its inputs, in their order, and then its outputs.
    """

    def __init__(self, tokens: int, keys: "Keys"):
        self._tokens, self._keys = tokens, keys
        self._values: list[schema.XValue] = []
        self._nodes: list[schema.XNode] = []
        self._data = [schema.ConstantDataOffset(0, 0)]  # The first one stands for none.
        self._inputs: list[int] = []
        self._outputs: list[int] = []

    def blob(self) -> bytes:
        return serialize_xnnpack_binary(
            schema.XNNGraph(
                version="0",
                xnodes=self._nodes,
                xvalues=self._values,
                num_externs=len(self._inputs) + len(self._outputs),
                input_ids=self._inputs,
                output_ids=self._outputs,
                constant_data=self._data,
            ),
            bytearray(),
        )

    def input(self, *shape: int) -> Value:
        """Of each token."""
        return self._input((1, self._tokens, *shape))

    def table(self, *shape: int) -> Value:
        """An input with rows for the tokens, [tokens, …]."""
        return self._input((self._tokens, *shape))

    def output(self, value: Value) -> None:
        """Makes `value`, which some node computes, an output. All inputs are known by then."""
        content = self._values[value.id].xvalue_union
        content.external_id, content.flags = len(self._inputs) + len(self._outputs), OUTPUT
        self._outputs.append(value.id)

    def numbers(self, tensor: Tensor) -> Value:
        """A constant that is no weight."""
        data = self._keys.of_bytes(tensor.numpy().tobytes())
        return self._value(tuple(tensor.shape), data=self._at(data, tensor.nbytes))

    def weight(self, name: str, *shape: int) -> Value:
        """In float32."""
        return self._value(shape, data=self._weight(name, "float32", *shape))

    def int8_weight(self, name: str, outputs: int, inputs: int) -> Value:
        """`name`.weight, with a scale for each output, `name`.scale."""
        weight = self._weight(f"{name}.weight", "int8", outputs, inputs)
        scale = self._weight(f"{name}.scale", "float32", outputs, 1)
        how = schema.PerChannelQuant([], 0, scale_buffer_idx=scale, num_scales=outputs)
        return self._value((outputs, inputs), XNNDatatype.xnn_datatype_qcint8, how, data=weight)

    def int4_weight(self, name: str, outputs: int, inputs: int, groups: int) -> Value:
        """`name`.weight, with a scale for each of the `groups` of inputs, `name`.scale."""
        weight = self._weight(f"{name}.weight", "int4", outputs, inputs)
        scale = self._weight(f"{name}.scale", "bfloat16", outputs, groups)
        scales = {"scale_buffer_idx": scale, "num_scales": outputs * groups}
        how = schema.PerChannelGroupQuant([], 0, inputs // groups, **scales)
        return self._value((outputs, inputs), XNNDatatype.xnn_datatype_qbint4, how, data=weight)

    def linear(self, x: Value, weight: Value) -> Value:
        """The product with `weight` [outputs, inputs]."""
        result = self._value((*x.shape[:-1], weight.shape[0]))
        return self._node(schema.XNNFullyConnected(x.id, weight.id, NONE, result.id, 0), result)

    def quantized(self, x: Value) -> Value:
        """As int8, with a scale and a zero point for each token, which are found while the model runs."""
        how = schema.PerTokenDynamicQuant(num_nonbatch_dims=1)
        result = self._value(x.shape, XNNDatatype.xnn_datatype_qdint8, how)
        return self._node(schema.XNNConvert(x.id, result.id, 0), result)

    def plus(self, x: Value, y: Value) -> Value:
        result = self._value(x.shape)
        return self._node(schema.XNNAdd(x.id, y.id, result.id, 0), result)

    def times(self, x: Value, y: Value) -> Value:
        result = self._value(x.shape)
        return self._node(schema.XNNMultiply(x.id, y.id, result.id, 0), result)

    def sigmoid(self, x: Value) -> Value:
        result = self._value(x.shape)
        return self._node(schema.XNNSigmoid(x.id, result.id, 0), result)

    def reciprocal_root(self, x: Value) -> Value:
        result = self._value(x.shape)
        return self._node(schema.XNNReciprocalSquareRoot(x.id, result.id, 0), result)

    def reshaped(self, x: Value, *shape: int) -> Value:
        """As [1, tokens, *shape]."""
        result = self._value((1, self._tokens, *shape))
        new = [1, 0, *shape]  # 0: as many as there are.
        return self._node(schema.XNNStaticReshape(len(new), new, x.id, result.id, 0), result)

    def row(self, x: Value) -> Value:
        """Of a graph for one token, all that `x` has, as [1, numbers]."""
        shape = 1, math.prod(x.shape)
        result = self._value(shape)
        return self._node(schema.XNNStaticReshape(len(shape), list(shape), x.id, result.id, 0), result)

    def part(self, x: Value, begin: int, end: int) -> Value:
        """Of each token, what is from `begin` to `end`: [1, tokens, end - begin, …]."""
        rest = x.shape[3:]
        result = self._value((*x.shape[:2], end - begin, *rest))
        offsets, sizes = [0, 0, begin, *(0 for _ in rest)], [1, 0, end - begin, *rest]  # 0: as many as there are.
        return self._node(schema.XNNStaticSlice(len(sizes), offsets, sizes, x.id, result.id, 0), result)

    def _input(self, shape: tuple[int, ...]) -> Value:
        value = self._value(shape, external=len(self._inputs), flags=INPUT)
        self._inputs.append(value.id)
        return value

    def _value(
        self,
        shape: tuple[int, ...],
        kind: XNNDatatype = XNNDatatype.xnn_datatype_fp32,
        how: XNNQuantParams | None = None,
        data: int = 0,
        external: int = NONE,
        flags: int = 0,
    ) -> Value:
        number = len(self._values)
        tensor = schema.XNNTensorValue(kind, len(shape), list(shape), data, external, flags, number)
        self._values.append(schema.XValue(schema.XNNQuantizedTensorValue(tensor, how) if how else tensor))
        return Value(number, shape)

    def _node(self, node: schema.XNodeUnion, result: Value) -> Value:
        self._nodes.append(schema.XNode(node, debug_handle=len(self._nodes)))
        return result

    def _weight(self, name: str, stored: Stored, *shape: int) -> int:
        weight = Weight(stored, shape)
        return self._at(self._keys.of_weight(name, weight), weight.nbytes)

    def _at(self, key: str, size: int) -> int:
        self._data.append(schema.ConstantDataOffset(OUTSIDE, size, key))
        return len(self._data) - 1


class Keys:
    """What all delegates of a program look up, by key.

    ExecuTorch keeps what XNNPACK has packed by these keys, for all programs of a process (XNNWeightsCache.cpp): two
    different weights must never have the same one. So they are made of `identity`, which no other model's weights have.
    """

    def __init__(self, identity: str):
        self._identity = identity
        self.named: dict[str, str | bytes] = {}
        """As in `Graph`."""
        self.weights: dict[str, Weight] = {}

    def of_weight(self, name: str, weight: Weight) -> str:
        self.weights[name] = weight
        return self._key(f"{self._identity} {name}".encode(), name)

    def of_bytes(self, content: bytes) -> str:
        return self._key(content, content)

    def _key(self, told: bytes, content: str | bytes) -> str:
        key = hashlib.sha256(told).hexdigest()
        self.named[key] = content
        return key
