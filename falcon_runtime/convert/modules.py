"""The modules that hold a weight as its scheme stores it.

A quantized linear layer has symmetric weights (integers times a scale per output channel or per group of inputs) and
runs with dynamically quantized int8 activations, one scale and zero point per token. Its forward is the
quantize-dequantize pattern that XNNPACK's partitioner turns into one int8 kernel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchao.quantization import quant_primitives  # noqa: F401  (registers torch.ops.torchao.*)

from .quantize import hadamard
from .schemes import FP32, Scheme


class Rotation(nn.Module):
    """A product with the Hadamard matrix of a block, which is its own inverse, for inputs [..., blocks, block]."""

    def __init__(self, block: int):
        super().__init__()
        self.hadamard: Tensor
        self.register_buffer("hadamard", hadamard(block), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.hadamard).flatten(-2)


class QuantizedLinear(nn.Module):
    """Takes inputs [1, N, inputs], or [1, N, blocks, block] where its scheme rotates them."""

    def __init__(self, inputs: int, outputs: int, scheme: Scheme):
        super().__init__()
        self.scheme = scheme
        self.block = scheme.block(inputs)
        self.rotation = Rotation(self.block) if self.block > 1 else nn.Identity()
        groups = scheme.groups(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=torch.int8), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(outputs, groups), requires_grad=False)
        self.zero_point = nn.Parameter(torch.zeros(outputs, groups, dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        # The operators themselves: torchao's functions around them switch gradients off and on again, and the passes
        # that clean those switches out of the graph take time that grows with the square of its size.
        ao = torch.ops.torchao
        x = self.rotation(x)
        token, weight = [1, 1, x.shape[-1]], [1, x.shape[-1] // self.scale.shape[1]]
        low, high = self.scheme.range
        scale, zero = ao.choose_qparams_affine(x, "ASYMMETRIC", token, torch.int8, -128, 127, None, None, torch.int8)
        x = ao.quantize_affine(x, token, scale, zero, torch.int8, -128, 127)
        x = ao.dequantize_affine(x, token, scale, zero, torch.int8, -128, 127)
        return F.linear(
            x, ao.dequantize_affine(self.weight, weight, self.scale, self.zero_point, torch.int8, low, high)
        )


class QuantizedEmbedding(nn.Module):
    def __init__(self, rows: int, size: int, scheme: Scheme):
        super().__init__()
        self.scheme = scheme
        self.weight = nn.Parameter(torch.empty(rows, size, dtype=torch.int8), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(rows, scheme.groups(size)), requires_grad=False)
        self.block = scheme.block(size)
        self.rotation = Rotation(self.block) if self.block > 1 else None

    def forward(self, tokens: Tensor) -> Tensor:
        # Called by name: the pass that would fuse a dequantized nn.Embedding fails in a dynamic graph.
        x: Tensor = torch.ops.quantized_decomposed.embedding_byte.dtype(
            self.weight, self.scale, None, *self.scheme.range, tokens, dtype=torch.float32
        )
        return self.rotation(x.view(1, x.shape[1], -1, self.block)) if self.rotation else x


class Linear(nn.Linear):
    block = 1

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)
        self.requires_grad_(False)


class Embedding(nn.Embedding):
    def __init__(self, rows: int, size: int):
        super().__init__(rows, size)
        self.requires_grad_(False)


def make_linear(inputs: int, outputs: int, scheme: Scheme) -> Linear | QuantizedLinear:
    return Linear(inputs, outputs) if scheme == FP32 else QuantizedLinear(inputs, outputs, scheme)


def make_embedding(rows: int, size: int, scheme: Scheme) -> Embedding | QuantizedEmbedding:
    return Embedding(rows, size) if scheme == FP32 else QuantizedEmbedding(rows, size, scheme)
