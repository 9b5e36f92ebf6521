"""Rounding weights to the integers and scales of a scheme."""

import torch
from torch import Tensor

from .schemes import Scheme


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
