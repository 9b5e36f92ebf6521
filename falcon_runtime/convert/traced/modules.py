"""The modules that hold a weight: as floats, for ExecuTorch's own kernels (XNNPACK), or packed, for ours.

Both kinds of linear are used with what stands before and after them in a Llama, since ours do that on the way: a norm,
SwiGLU's gate, the addition to the residual stream.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.recipes import FP32, Scheme
from . import operators  # noqa: F401  (registers torch.ops.falcon.*)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Linear(nn.Module):
    def __init__(self, outputs: int, inputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs), requires_grad=False)

    def normed(self, x: Tensor, norm: RMSNorm, precise: bool = False) -> Tensor:
        return F.linear(norm(x), self.weight)

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        return residual + F.linear(x, self.weight)

    def gated(self, gate_up: Tensor, residual: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return self.added(F.silu(gate) * up, residual)


class PackedLinear(nn.Module):
    def __init__(self, outputs: int, inputs: int, scheme: Scheme):
        super().__init__()
        self.outputs = outputs
        self.weight = nn.Parameter(_bytes(outputs, inputs, scheme), requires_grad=False)

    def normed(self, x: Tensor, norm: RMSNorm, precise: bool = False) -> Tensor:
        product: Tensor = torch.ops.falcon.norm_linear(x, norm.weight, norm.eps, self.weight, self.outputs, precise)
        return product

    def added(self, x: Tensor, residual: Tensor) -> Tensor:
        total: Tensor = torch.ops.falcon.linear_add(x, self.weight, residual)
        return total

    def gated(self, gate_up: Tensor, residual: Tensor) -> Tensor:
        total: Tensor = torch.ops.falcon.gated_linear_add(gate_up, self.weight, residual)
        return total


class Embedding(nn.Embedding):
    def __init__(self, rows: int, size: int):
        super().__init__(rows, size)
        self.requires_grad_(False)


class PackedEmbedding(nn.Module):
    def __init__(self, rows: int, size: int, scheme: Scheme):
        super().__init__()
        self.weight = nn.Parameter(_bytes(rows, size, scheme), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        rows: Tensor = torch.ops.falcon.embedding(tokens, self.weight)
        return rows


def make_linear(outputs: int, inputs: int, scheme: Scheme) -> Linear | PackedLinear:
    return Linear(outputs, inputs) if scheme == FP32 else PackedLinear(outputs, inputs, scheme)


def make_embedding(rows: int, size: int, scheme: Scheme) -> Embedding | PackedEmbedding:
    return Embedding(rows, size) if scheme == FP32 else PackedEmbedding(rows, size, scheme)


def _bytes(outputs: int, inputs: int, scheme: Scheme) -> Tensor:
    return torch.empty(scheme.shape(outputs, inputs), dtype=torch.uint8)
