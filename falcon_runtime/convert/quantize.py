"""Rounding weights to the blocks of a scheme, and reading them back."""

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from ..models.recipes import BLOCK, QUADS, TILE, Scheme

DIVISORS = {4: (-8.0, -9.0, -7.0), 6: (-32.0, -33.0, -31.0, -30.0)}
"""Of the number farthest from zero in a block of so many bits: scales to begin with, the best of which is taken. -8
gives those of llama.cpp's Q4_0."""
SPANS = 15.0, 14.0, 13.0
"""Steps between the least and the greatest number of a block with an offset, as many as there are or a few less."""
BETTER = 1 - 1e-5
"""What is only better by rounding errors is not taken for better."""


def packed(weight: Tensor, scheme: Scheme) -> Tensor:
    """`weight` [out, in], float32, in the bytes of `scheme`: uint8 of the shape `scheme.shape(out, in)`."""
    tiles, blocks, size = scheme.shape(*weight.shape)
    numbers = np.zeros((tiles * TILE, blocks, BLOCK), np.float32)
    numbers[: len(weight)] = weight.numpy().reshape(len(weight), blocks, BLOCK)
    scale, offset = grid(numbers, scheme)
    result = np.zeros((tiles, blocks, size), np.uint8)
    # As they are stored: the integers should fit the scales that are used.
    for i, part in enumerate((scale, offset)[: 1 + scheme.offsets]):
        stored = part.reshape(tiles, TILE, blocks).transpose(0, 2, 1).astype(np.float16)
        result[..., 2 * TILE * i : 2 * TILE * (i + 1)] = np.ascontiguousarray(stored).view(np.uint8)
        part[:] = part.astype(np.float16)
    head = scheme.head_bytes
    _fill(numbers, scale, offset, scheme.bits, scheme.zero, result[..., head:].reshape(tiles, blocks, -1, 4 * TILE))
    return torch.from_numpy(result)


def unpacked(weight: Tensor, scheme: Scheme) -> Tensor:
    """What `packed` has made, as float32 [16 * tiles, in]."""
    tiles, blocks, _ = weight.shape
    head = scheme.head_bytes
    floats = weight[..., :head].contiguous().view(torch.float16).float().view(tiles, blocks, -1, TILE)
    integers = weight[..., head:].view(tiles, blocks, -1, 4 * TILE)
    if scheme.bits < 8:
        low, high = integers[:, :, : QUADS // 2], integers[:, :, QUADS // 2 :]
        integers = torch.stack([low & 15, low >> 4], 3).flatten(2, 3)
        if scheme.bits == 6:
            integers += torch.stack([high >> shift & 3 for shift in (0, 2, 4, 6)], 3).flatten(2, 3) << 4
    numbers = integers.float().view(tiles, blocks, QUADS, TILE, 4).permute(0, 3, 1, 2, 4).flatten(3) - scheme.zero
    scale, *offset = (part.transpose(1, 2)[..., None] for part in floats.unbind(2))
    return (numbers * scale + (offset[0] if offset else 0)).view(tiles * TILE, -1)


def grid(numbers: Any, scheme: Scheme) -> tuple[Any, Any]:
    """Scale and offset [out, blocks] of the blocks `numbers` [out, blocks, 32]."""
    scale, offset = np.zeros((2, *numbers.shape[:2]), np.float32)
    if scheme.offsets:
        _search_spans(numbers, offset, np.array(SPANS, np.float32), scale)
    elif scheme.bits == 8:
        scale[:] = np.abs(numbers).max(-1) / 127
    else:
        _search(numbers, np.array(DIVISORS[scheme.bits], np.float32), np.float32(scheme.zero), scale)
    return scale, offset


@njit(nogil=True, fastmath=True)
def _search(numbers: Any, divisors: Any, zero: Any, scales: Any) -> None:
    """The scales of integers from -zero to zero - 1 with the least squared errors: each of those that `divisors` give
    is fitted to the integers that it rounds to (least squares), and the best is kept."""
    for out in range(numbers.shape[0]):
        for block in range(numbers.shape[1]):
            x = numbers[out, block]
            far = np.float32(0)
            for i in range(BLOCK):
                far = x[i] if abs(x[i]) > abs(far) else far
            if far == 0:
                continue
            best = np.float32(0)
            for divisor in divisors:
                inverse = divisor / far
                product, square = np.float32(0), np.float32(0)
                for i in range(BLOCK):
                    q = min(max(np.rint(x[i] * inverse), -zero), zero - np.float32(1))
                    product += q * x[i]
                    square += q * q
                # The error is sum(x * x) - product ** 2 / square.
                if product * product * np.float32(BETTER) > best * square:
                    best = product * product / square
                    scales[out, block] = product / square


@njit(nogil=True, fastmath=True)
def _search_spans(numbers: Any, offsets: Any, spans: Any, scales: Any) -> None:
    """The least numbers, and the scales of 4 bits above them with the least squared errors, of those that `spans`
    give."""
    for out in range(numbers.shape[0]):
        for block in range(numbers.shape[1]):
            x = numbers[out, block]
            offset = x[0]
            for i in range(BLOCK):
                offset = min(offset, x[i])
            offsets[out, block] = offset
            top = np.float32(0)
            for i in range(BLOCK):
                top = max(top, x[i] - offset)
            best = np.float32(3e38)
            for span in spans:
                scale, error = top / span, np.float32(0)
                inverse = span / top if top > 0 else np.float32(0)
                for i in range(BLOCK):
                    q = min(np.rint((x[i] - offset) * inverse), np.float32(15))
                    difference = x[i] - offset - q * scale
                    error += difference * difference
                if error < best * np.float32(BETTER):
                    best = error
                    scales[out, block] = scale


@njit(nogil=True, fastmath=True)
def _fill(numbers: Any, scales: Any, offsets: Any, bits: Any, zero: Any, result: Any) -> None:
    low, high = (-127, 127) if bits == 8 else (-zero, (1 << bits) - 1 - zero)
    for tile in range(result.shape[0]):
        for block in range(result.shape[1]):
            for output in range(TILE):
                out = TILE * tile + output
                scale, offset = scales[out, block], offsets[out, block]
                inverse = np.float32(1) / scale if scale != 0 else np.float32(0)
                for i in range(BLOCK):
                    number = np.rint((numbers[out, block, i] - offset) * inverse)
                    q = np.uint8(min(max(number, low), high) + zero)
                    quad, place = i // 4, 4 * output + i % 4
                    if bits == 8:
                        result[tile, block, quad, place] = q
                    else:
                        result[tile, block, quad // 2, place] |= (q & 15) << (4 * (quad % 2))
                    if bits == 6:
                        result[tile, block, QUADS // 2 + quad // 4, place] |= (q >> 4) << (2 * (quad % 4))
