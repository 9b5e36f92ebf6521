"""The ways in which exporters put the numbers of a weight into a file."""

import torch
from torch import Tensor

from ..graph import Stored

WAYS: dict[torch.dtype, tuple[Stored, ...]] = {
    torch.uint8: ("uint8",),
    torch.int8: ("int8", "int4"),
    torch.float32: ("float32", "bfloat16"),
}
"""By what a module has them in. XNNPACK stores integers in 4 bits where all of a weight are from -8 to 7, and the
scales of groups in bfloat16."""


def as_stored(numbers: Tensor, stored: Stored) -> Tensor:
    """The numbers of a module's weight, in a tensor of what lies in the file."""
    if stored == "int4":
        low, high = (numbers + 8).view(torch.uint8).view(*numbers.shape[:-1], -1, 2).unbind(-1)
        return low | high << 4
    if stored == "bfloat16":
        return numbers.bfloat16().view(torch.int16)  # numpy has no bfloat16.
    return numbers
