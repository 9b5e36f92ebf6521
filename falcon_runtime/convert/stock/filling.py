"""Weights of a checkpoint into the module, where all of it fits into memory: what a lowering that looks at the numbers
needs, and what a written file is compared with."""

from typing import TypeVar

from torch import Tensor

from ...models.recipes import Schemes
from ..checkpoint import Checkpoint
from ..graph import TABLES
from ..weights import stream
from .graph import TIED
from .llama import Llama
from .quantize import stock_parts

Kind = TypeVar("Kind", bound=Llama)


def filled(checkpoint: Checkpoint, schemes: Schemes, context: int, kind: type[Kind] = Llama) -> Kind:  # type: ignore[assignment]
    model = kind(checkpoint.architecture, schemes, context).eval()
    parameters = dict(model.named_parameters())

    def write(name: str, first: int, numbers: Tensor) -> None:
        target = parameters[name].data
        if numbers.ndim == 1:  # Of a norm, which may come in blocks.
            target = target.view(-1)
        target[first : first + len(numbers)] = numbers

    stream(checkpoint, schemes, write, parts=stock_parts)
    for name, table in zip(TABLES, checkpoint.config.rope_tables(context), strict=True):
        write(name, 0, table)
    for name, other in TIED.items():
        if schemes.shared and name in parameters:
            parameters[other].data.copy_(parameters[name].data)
    return model
