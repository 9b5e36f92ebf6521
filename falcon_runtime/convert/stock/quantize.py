"""Rounding weights to the numbers of a stock scheme."""

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from ...models.recipes import INT4, INT4_OFFSET, Scheme
from ..graph import Stored
from ..quantize import grid
from .schemes import INT4_TABLE, StockScheme

TINY = 1e-10


def stock_parts(weight: Tensor, scheme: Scheme, row: int) -> Iterator[tuple[str, int, Tensor]]:
    """What `scheme` makes of `weight` [out, in], float32, rows of a layer's from `row` on, by the names that the
    modules have for it: `weight` (integers [out, in]), `scale` (float32 [out, groups]), and with offsets
    `offset.weight` (int8 [out, groups]) and `offset.scale` (float32 [out, 1])."""
    parts = _quantized(weight, scheme) if isinstance(scheme, StockScheme) else {"weight": weight}
    for name, part in parts.items():
        yield name, row, part


def _quantized(weight: Tensor, scheme: StockScheme) -> dict[str, Tensor]:
    rows, inputs = weight.shape
    if scheme.group:
        numbers = weight.reshape(rows, scheme.groups(inputs), scheme.group)
        return _with_offsets(numbers) if scheme.offsets else _in_groups(numbers)
    if (block := scheme.block(inputs)) > 1:
        weight = (weight.view(-1, block) @ hadamard(block)).view(rows, inputs)
    scale = weight.abs().amax(1, keepdim=True).clamp_min_(TINY) / scheme.range[1]
    return {"weight": (weight / scale).round_().to(torch.int8), "scale": scale}


def _in_groups(numbers: Tensor) -> dict[str, Tensor]:
    """Numbers [out, groups, group] as an embedding in 4 bits has them: two in a byte, earlier ones high."""
    scale = torch.from_numpy(grid(numbers.numpy(), INT4)[0])
    scale[scale == 0] = TINY
    integers = (numbers / scale[..., None]).round_().clamp_(*INT4_TABLE.range).add_(8).to(torch.uint8)
    high, low = integers.view(len(integers), -1, 2).unbind(2)
    return {"weight": high << 4 | low, "scale": scale}


def _with_offsets(numbers: Tensor) -> dict[str, Tensor]:
    """Numbers [out, groups, group] as scale * integer + offset, as near as the parts are stored."""
    scale, least = (torch.from_numpy(part) for part in grid(numbers.numpy(), INT4_OFFSET))
    offset = least + 8 * scale  # That of the integer 0: they go from -8 to 7.
    scale = scale.clamp_min(TINY).bfloat16().float()  # As XNNPACK keeps it: the integers should fit what is used.
    offset_scale = offset.abs().amax(1, keepdim=True).clamp_min_(TINY) / 127
    offset = (offset / offset_scale).round_()
    integers = (numbers - (offset * offset_scale)[..., None]).div_(scale[..., None]).round_().clamp_(-8, 7)
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


def as_stored(numbers: Tensor, stored: Stored) -> Tensor:
    """What `stock_parts` gives, in a tensor of what lies in the file."""
    if stored == "int4":
        pairs = (numbers + 8).view(torch.int16)  # The earlier number in the low byte.
        return (pairs | pairs >> 4).to(torch.uint8)
    if stored == "bfloat16":
        return numbers.bfloat16().view(torch.int16)  # numpy has no bfloat16.
    return numbers
