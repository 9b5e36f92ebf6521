"""Rounding weights to the integers and scales of a scheme."""

import math
from functools import cache

import torch
from torch import Tensor

from .schemes import Scheme


def quantize(weight: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Integers [out, in] (int8) and scales [out, groups] (float32) of a weight [out, in], rounded to the nearest."""
    out, inputs = weight.shape
    if (block := scheme.block(inputs)) > 1:
        weight = (weight.view(-1, block) @ hadamard(block)).view(out, inputs)
    low, high = scheme.range
    groups = weight.float().view(out, -1, scheme.group or inputs)
    scale = groups.abs().amax(-1, keepdim=True).clamp_min(1e-10) / ((high - low) / 2)
    if scheme.bits == 4:
        scale = scale.bfloat16().float()  # As XNNPACK keeps them: the integers should fit the scales that are used.
    integers = (groups / scale).round_().clamp_(low, high)
    return integers.to(torch.int8).view(out, inputs), scale.squeeze(-1)


@cache
def hadamard(size: int) -> Tensor:
    """Sylvester's orthogonal matrix [size, size] of equal magnitudes, `size` being a power of two; symmetric."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)
