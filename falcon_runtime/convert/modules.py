"""The modules that hold a weight as its scheme stores it.

A quantized linear layer has symmetric weights (integers times a scale per output channel or per group of inputs) and
runs with dynamically quantized int8 activations, one scale and zero point per token. Its forward is the
quantize-dequantize pattern that XNNPACK's partitioner turns into one int8 kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchao.quantization import quant_primitives  # noqa: F401  (registers torch.ops.torchao.*)

from ..recipes import FP32, INT8, Scheme
from .quantize import hadamard


class Rotation(nn.Module):
    """A product with the Hadamard matrix of a block, which is its own inverse, for inputs [..., blocks, block]."""

    def __init__(self, block: int):
        super().__init__()
        self.hadamard: Tensor
        self.register_buffer("hadamard", hadamard(block), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.hadamard).flatten(-2)


class DynamicLinear(nn.Module):
    """A linear layer whose inputs [1, N, in] are quantized to int8, with one scale and zero point per token."""

    def __init__(self, outputs: int, inputs: int, scheme: Scheme):
        super().__init__()
        self.range = scheme.range
        groups = scheme.groups(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=torch.int8), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(outputs, groups), requires_grad=False)
        self.zero_point: Tensor
        self.register_buffer("zero_point", torch.zeros(outputs, groups, dtype=torch.int8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # The operators themselves: torchao's functions around them switch gradients off and on again, and the passes
        # that clean those switches out of the graph take time that grows with the square of its size.
        ao = torch.ops.torchao
        token, group = [1, 1, x.shape[-1]], [1, x.shape[-1] // self.scale.shape[1]]
        scale, zero = ao.choose_qparams_affine(x, "ASYMMETRIC", token, torch.int8, -128, 127, None, None, torch.int8)
        x = ao.quantize_affine(x, token, scale, zero, torch.int8, -128, 127)
        x = ao.dequantize_affine(x, token, scale, zero, torch.int8, -128, 127)
        return F.linear(
            x, ao.dequantize_affine(self.weight, group, self.scale, self.zero_point, torch.int8, *self.range)
        )


class RotatedLinear(DynamicLinear):
    """Takes inputs [1, N, blocks, block] and rotates each block, as its weights are."""

    def __init__(self, outputs: int, inputs: int, scheme: Scheme):
        super().__init__(outputs, inputs, scheme)
        self.rotation = Rotation(scheme.block(inputs))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.rotation(x))


class OffsetLinear(DynamicLinear):
    """Takes inputs [1, N, groups, group]; every group of weights has an offset, which meets the sum of its inputs."""

    def __init__(self, outputs: int, inputs: int, scheme: Scheme):
        super().__init__(outputs, inputs, scheme)
        self.offset = DynamicLinear(outputs, scheme.groups(inputs), INT8)
        self.ones: Tensor
        self.register_buffer("ones", torch.ones(1, scheme.group), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        sums = F.linear(x, self.ones).flatten(-2)
        return super().forward(x.flatten(-2)) + self.offset(sums)


class QuantizedEmbedding(nn.Module):
    def __init__(self, rows: int, size: int, scheme: Scheme):
        super().__init__()
        self.scheme = scheme
        self.block = scheme.block(size)
        self.rotation = Rotation(self.block) if self.block > 1 else None
        # At 4 bits two numbers are one byte.
        columns, kind = (size // 2, torch.uint8) if scheme.bits == 4 else (size, torch.int8)
        self.weight = nn.Parameter(torch.empty(rows, columns, dtype=kind), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(rows, scheme.groups(size)), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        # Called by name: the pass that would fuse a dequantized nn.Embedding fails in a dynamic graph.
        operators = torch.ops.quantized_decomposed
        lookup = operators.embedding_4bit if self.scheme.bits == 4 else operators.embedding_byte
        x: Tensor = lookup.dtype(self.weight, self.scale, None, *self.scheme.range, tokens, dtype=torch.float32)
        return self.rotation(x.view(1, x.shape[1], -1, self.block)) if self.rotation else x


class Linear(nn.Linear):
    def __init__(self, outputs: int, inputs: int):
        super().__init__(inputs, outputs, bias=False)
        self.requires_grad_(False)


class Embedding(nn.Embedding):
    def __init__(self, rows: int, size: int):
        super().__init__(rows, size)
        self.requires_grad_(False)


def make_linear(outputs: int, inputs: int, scheme: Scheme) -> Linear | DynamicLinear:
    if scheme == FP32:
        return Linear(outputs, inputs)
    if scheme.offsets:
        return OffsetLinear(outputs, inputs, scheme)
    return (RotatedLinear if scheme.block(inputs) > 1 else DynamicLinear)(outputs, inputs, scheme)


def make_embedding(rows: int, size: int, scheme: Scheme) -> Embedding | QuantizedEmbedding:
    return Embedding(rows, size) if scheme == FP32 else QuantizedEmbedding(rows, size, scheme)
