"""The modules that hold a weight as a stock scheme stores it.

What stands between two attentions should be one delegate, or two: XNNPACK takes no mean of three dimensions, and no
slices and no views of a length that is known only at run time. So a mean is a product with a row, and a length is -1.

A quantized linear layer has symmetric weights (integers times a scale for each output, or for each group of inputs) and
runs with dynamically quantized int8 activations, one scale and zero point for each token. Its forward is the pattern of
quantizing and dequantizing that XNNPACK's partitioner turns into one int8 kernel.
"""

from math import prod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchao.quantization import quant_primitives  # noqa: F401  (registers torch.ops.torchao.*)

from ...models.recipes import FP32, Scheme
from .. import exporter  # noqa: F401
from .quantize import hadamard
from .schemes import INT8, StockScheme


class RMSNorm(nn.Module):
    """Gives [1, N, size], or [1, N, blocks, block] to a linear layer that takes that: in this shape from the start, so
    that the norm and what the layer does with the blocks are one delegate."""

    def __init__(self, shape: tuple[int, ...], eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(shape), requires_grad=False)
        self.mean: Tensor
        self.register_buffer("mean", torch.full((1, prod(shape)), 1 / prod(shape)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.linear(x * x, self.mean)
        if self.weight.ndim == 2:
            x, mean = x.view(1, -1, *self.weight.shape), mean.view(1, -1, 1, 1)
        return x * torch.rsqrt(mean + self.eps) * self.weight


class Rotation(nn.Module):
    """A product with the Hadamard matrix of a block, which is its own inverse, for inputs [..., blocks, block]."""

    def __init__(self, block: int):
        super().__init__()
        self.hadamard: Tensor
        self.register_buffer("hadamard", hadamard(block), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.hadamard).flatten(-2)


class DynamicLinear(nn.Module):
    """A linear layer whose inputs [1, N, in] are quantized to int8, with one scale and zero point for each token."""

    def __init__(self, outputs: int, inputs: int, scheme: StockScheme):
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

    def __init__(self, outputs: int, inputs: int, scheme: StockScheme):
        super().__init__(outputs, inputs, scheme)
        self.rotation = Rotation(scheme.block(inputs))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.rotation(x))


class OffsetLinear(DynamicLinear):
    """Takes inputs [1, N, groups, group]; every group of weights has an offset, which meets the sum of its inputs."""

    def __init__(self, outputs: int, inputs: int, scheme: StockScheme):
        super().__init__(outputs, inputs, scheme)
        self.offset = DynamicLinear(outputs, scheme.groups(inputs), INT8)
        self.ones: Tensor
        self.register_buffer("ones", torch.ones(1, scheme.group), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        sums = F.linear(x, self.ones).flatten(-2)
        return super().forward(x.flatten(-2)) + self.offset(sums)


class QuantizedEmbedding(nn.Module):
    def __init__(self, rows: int, size: int, scheme: StockScheme):
        super().__init__()
        self.scheme = scheme
        self.block = scheme.block(size)
        self.rotation = Rotation(self.block) if self.block > 1 else None
        # In 4 bits two numbers are one byte.
        columns, kind = (size // 2, torch.uint8) if scheme.bits == 4 else (size, torch.int8)
        self.weight = nn.Parameter(torch.empty(rows, columns, dtype=kind), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(rows, scheme.groups(size)), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        # Called by name: the pass that would fuse a dequantized nn.Embedding fails in a dynamic graph.
        operators = torch.ops.quantized_decomposed
        lookup = operators.embedding_4bit if self.scheme.bits == 4 else operators.embedding_byte
        x: Tensor = lookup.dtype(self.weight, self.scale, None, *self.scheme.range, tokens, dtype=torch.float32)
        return self.rotation(x.view(1, -1, x.shape[2] // self.block, self.block)) if self.rotation else x


def make_linear(outputs: int, inputs: int, scheme: Scheme) -> nn.Module:
    if scheme == FP32:
        return nn.Linear(inputs, outputs, bias=False).requires_grad_(False)
    stock = cast(StockScheme, scheme)
    if stock.offsets:
        return OffsetLinear(outputs, inputs, stock)
    return (RotatedLinear if stock.block(inputs) > 1 else DynamicLinear)(outputs, inputs, stock)


def make_embedding(rows: int, size: int, scheme: Scheme) -> nn.Module:
    if scheme == FP32:
        return nn.Embedding(rows, size).requires_grad_(False)
    return QuantizedEmbedding(rows, size, cast(StockScheme, scheme))
