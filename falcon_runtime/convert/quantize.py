"""Rounding weights to the numbers of a scheme."""

import math
from functools import cache

import torch
from torch import Tensor

from ..recipes import Scheme

TINY = 1e-10
Parts = dict[str, Tensor]
"""What a weight [out, in] is made of, by the names that the modules have for it: `weight` (integers [out, in]), `scale`
(float32 [out, groups]), and with offsets `offset.weight` (int8 [out, groups]) and `offset.scale` (float32 [out, 1])."""


def quantize(weight: Tensor, scheme: Scheme, grid: tuple[Tensor, Tensor] | None = None) -> Parts:
    """`weight` [out, in], float32, as `scheme` stores it.

    `grid`, for a scheme with offsets, are scales and offsets [out, groups] on which the numbers lie already: then they
    stay what they are, but for the rounding of scales (to bfloat16) and offsets (to 8 bits).
    """
    if scheme.bits == 32:
        return {"weight": weight}
    rows, inputs = weight.shape
    if scheme.rotated and (block := scheme.block(inputs)) > 1:
        weight = (weight.view(-1, block) @ hadamard(block)).view(rows, inputs)
    groups = weight.view(rows, -1, scheme.group or inputs)
    if grid:
        return with_offsets(groups, *grid)
    low, high = groups.amin(-1), groups.amax(-1)  # Together, aminmax, they take five times as long.
    if scheme.offsets:
        scale = (high - low) / 15
        return with_offsets(groups, scale, (low + high + scale) / 2)
    last = scheme.range[1]
    scale = torch.maximum(high, -low).clamp_min_(TINY) / last
    integers = (groups * (1 / scale)[..., None]).round_()
    return {"weight": integers.to(torch.int8).view(rows, inputs), "scale": scale}


def with_offsets(groups: Tensor, scale: Tensor, offset: Tensor) -> Parts:
    """Numbers [out, groups, group] as `scale` * integer + `offset`, both [out, groups], as near as they are stored."""
    scale = (
        scale.clamp_min(TINY).bfloat16().float()
    )  # As XNNPACK keeps them: the integers should fit the scales that are used.
    offset_scale = offset.abs().amax(1, keepdim=True).clamp_min_(TINY) / 127
    offset = (offset / offset_scale).round_()
    integers = (groups - (offset * offset_scale)[..., None]).mul_((1 / scale)[..., None]).round_().clamp_(-8, 7)
    return {
        "weight": integers.to(torch.int8).flatten(1),
        "scale": scale,
        "offset.weight": offset.to(torch.int8),
        "offset.scale": offset_scale,
    }


@cache
def hadamard(size: int) -> Tensor:
    """Sylvester's orthogonal matrix [size, size] of equal magnitudes, `size` being a power of two; symmetric."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / math.sqrt(size)


def two_in_a_byte(integers: Tensor) -> Tensor:
    """Integers from -8 to 7 [rows, in] as ExecuTorch's embedding has them: bytes [rows, in / 2], earlier ones high."""
    high, low = (integers + 8).to(torch.uint8).view(len(integers), -1, 2).unbind(2)
    return high << 4 | low
