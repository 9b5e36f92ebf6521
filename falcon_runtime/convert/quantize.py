"""Recipes, and the modules that hold a weight as its recipe stores it.

A linear layer is quantized symmetrically (weights: integers times a scale per output channel or per group of inputs)
and runs with dynamically quantized int8 activations, one scale and zero point per token. Its forward is the
quantize-dequantize pattern that XNNPACK's partitioner turns into one int8 kernel.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchao.quantization import quant_primitives  # noqa: F401  (registers torch.ops.torchao.*)

from ..errors import ConversionFailed
from ..manifest import RecipeName


@dataclass(frozen=True)
class Scheme:
    """How one weight is stored: signed integers of `bits`, a scale per `group` inputs (0: per output channel)."""

    bits: int
    group: int = 0

    @property
    def range(self) -> tuple[int, int]:
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    def groups(self, inputs: int) -> int:
        """Scales per output channel. Errors: ConversionFailed where the groups do not fit."""
        if inputs % (self.group or inputs):
            raise ConversionFailed(
                f"This recipe needs weights whose inputs come in groups of {self.group}; one has {inputs}. Convert the "
                "model with --recipe fp32."
            )
        return inputs // (self.group or inputs)


FP32 = Scheme(bits=32)
INT8 = Scheme(bits=8)
INT8_GROUPS = Scheme(bits=8, group=32)
INT4_GROUPS = Scheme(bits=4, group=32)


@dataclass(frozen=True)
class Recipe:
    """The scheme of each kind of weight."""

    linear: Scheme
    head: Scheme
    embedding: Scheme


RECIPES: dict[RecipeName, Recipe] = {
    "fp32": Recipe(linear=FP32, head=FP32, embedding=FP32),
    "int8": Recipe(linear=INT8, head=INT8, embedding=INT8_GROUPS),
    "int4": Recipe(linear=INT4_GROUPS, head=INT8, embedding=INT8_GROUPS),
}


def quantize(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Integers [out, in] (int8) and scales [out, groups] (float32) of a weight [out, in], rounded to the nearest."""
    out, inputs = weight.shape
    low, high = scheme.range
    groups = weight.float().view(out, -1, scheme.group or inputs)
    scale = groups.abs().amax(-1, keepdim=True).clamp_min(1e-10) / ((high - low) / 2)
    if scheme.bits == 4:
        scale = scale.bfloat16().float()  # As XNNPACK keeps them: the integers should fit the scales that are used.
    integers = (groups / scale).round_().clamp_(low, high)
    return integers.to(torch.int8).view(out, inputs), scale.squeeze(-1)


class QuantizedLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int, scheme: Scheme):
        super().__init__()
        self.scheme = scheme
        groups = scheme.groups(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=torch.int8), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(outputs, groups), requires_grad=False)
        self.zero_point = nn.Parameter(torch.zeros(outputs, groups, dtype=torch.int8), requires_grad=False)

    def set_rows(self, first: int, weight: Tensor) -> None:
        """Quantizes `weight` [rows, in] into the rows from `first` on."""
        rows = slice(first, first + weight.shape[0])
        self.weight[rows], self.scale[rows] = quantize(weight, self.scheme)

    def forward(self, x: Tensor) -> Tensor:
        # The operators themselves: torchao's functions around them switch gradients off and on again, and the passes
        # that clean those switches out of the graph take time that grows with the square of its size.
        ao = torch.ops.torchao
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

    def set_rows(self, first: int, weight: Tensor) -> None:
        rows = slice(first, first + weight.shape[0])
        self.weight[rows], self.scale[rows] = quantize(weight, self.scheme)

    def forward(self, tokens: Tensor) -> Tensor:
        # Called by name: the pass that would fuse a dequantized nn.Embedding fails in a dynamic graph.
        return torch.ops.quantized_decomposed.embedding_byte.dtype(
            self.weight, self.scale, None, *self.scheme.range, tokens, dtype=torch.float32
        )


class Linear(nn.Linear):
    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)
        self.requires_grad_(False)

    def set_rows(self, first: int, weight: Tensor) -> None:
        self.weight[first : first + weight.shape[0]] = weight


class Embedding(nn.Embedding):
    def __init__(self, rows: int, size: int):
        super().__init__(rows, size)
        self.requires_grad_(False)

    def set_rows(self, first: int, weight: Tensor) -> None:
        self.weight[first : first + weight.shape[0]] = weight


def make_linear(inputs: int, outputs: int, scheme: Scheme) -> Linear | QuantizedLinear:
    return Linear(inputs, outputs) if scheme == FP32 else QuantizedLinear(inputs, outputs, scheme)


def make_embedding(rows: int, size: int, scheme: Scheme) -> Embedding | QuantizedEmbedding:
    return Embedding(rows, size) if scheme == FP32 else QuantizedEmbedding(rows, size, scheme)
