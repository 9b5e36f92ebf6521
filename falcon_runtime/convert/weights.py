"""From a checkpoint into the exported Llama, a few rows at a time: no more than those are in memory twice."""

from collections.abc import Callable
from math import prod
from typing import cast

from torch import Tensor

from .checkpoint import EMBEDDING, HEAD, Checkpoint, Shape, tensor_shapes
from .llama import Layer, Llama, RMSNorm

BLOCK_ROWS = 4096
"""Rows read at once: 50 MB in float32 of Falcon3-7B's embedding, which has 1.6 GB as a whole."""

Write = Callable[[int, Tensor], None]
"""Puts rows of a tensor where they belong in the model, given the number of the first."""


def load(model: Llama, checkpoint: Checkpoint, on_progress: Callable[[float], None] | None = None) -> None:
    """Fills every weight of `model`, telling `on_progress` which share of all has been read, from 0 to 1.

    Errors: ConversionFailed where the checkpoint lacks a tensor, has one more, or has one in another shape.
    """
    checkpoint.check(model.config)
    shapes = tensor_shapes(model.config)
    total, done = sum(prod(shape) for shape in shapes.values()), 0
    for name, write in _destinations(model, shapes).items():
        for first in range(0, shapes[name][0], BLOCK_ROWS):
            rows = checkpoint.tensor(name, slice(first, first + BLOCK_ROWS))
            write(first, rows)
            done += rows.numel()
            if on_progress:
                on_progress(done / total)


def _destinations(model: Llama, shapes: dict[str, Shape]) -> dict[str, Write]:
    """Where each tensor goes, in the order of the layers."""
    writes: dict[str, Write] = {EMBEDDING: model.embed.set_rows}
    for i, layer in enumerate(cast(list[Layer], model.layers)):
        prefix, attention = f"model.layers.{i}.", layer.attention
        queries, keys = (shapes[f"{prefix}self_attn.{part}.weight"][0] for part in ("q_proj", "k_proj"))
        parts: dict[str, Write] = {
            "input_layernorm": _into_norm(layer.attention_norm),
            "self_attn.q_proj": attention.qkv.set_rows,
            "self_attn.k_proj": _from_row(queries, attention.qkv.set_rows),
            "self_attn.v_proj": _from_row(queries + keys, attention.qkv.set_rows),
            "self_attn.o_proj": attention.out.set_rows,
            "post_attention_layernorm": _into_norm(layer.mlp_norm),
            "mlp.gate_proj": layer.gate_up.set_rows,
            "mlp.up_proj": _from_row(layer.hidden, layer.gate_up.set_rows),
            "mlp.down_proj": layer.down.set_rows,
        }
        writes |= {f"{prefix}{part}.weight": write for part, write in parts.items()}
    return writes | {"model.norm.weight": _into_norm(model.norm), HEAD: model.head.set_rows}


def _from_row(offset: int, write: Write) -> Write:
    return lambda first, rows: write(offset + first, rows)


def _into_norm(norm: RMSNorm) -> Write:
    def write(first: int, rows: Tensor) -> None:
        norm.weight[first : first + len(rows)] = rows

    return write
