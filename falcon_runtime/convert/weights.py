"""From a checkpoint into a .pte: every tensor a few rows at a time, quantized and written where it belongs."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ..errors import ConversionFailed
from ..models.recipes import FP32, TILE, Scheme, Schemes
from .checkpoint import EMBEDDING, HEAD, Checkpoint, tensor_shapes
from .quantize import packed

BLOCK = 1 << 19
"""Numbers that a thread works on at once: 2 MB in float32, which stay in its processor's cache."""

Write = Callable[[str, int, Tensor], None]
"""Takes rows of a weight as it is stored, packed ones being tiles: its name in the graph, the number of the first one,
and what is stored."""
Parts = Callable[[Tensor, Scheme, int], Iterable[tuple[str, int, Tensor]]]
"""What a scheme makes of rows of a layer's weight [out, in], float32, from a row on: of each part its name, the number
of its first row, and what is stored."""


@dataclass(frozen=True)
class Place:
    """Where a tensor of a checkpoint goes: the weight of a module, from a row on."""

    module: str
    row: int
    scheme: Scheme


def packed_parts(numbers: Tensor, scheme: Scheme, row: int) -> Iterable[tuple[str, int, Tensor]]:
    if scheme == FP32:
        return [("weight", row, numbers)]
    return [("weight", row // TILE, packed(numbers, scheme))]


def stream(
    checkpoint: Checkpoint,
    schemes: Schemes,
    write: Write,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    parts: Parts = packed_parts,
) -> None:
    """Writes every weight of the model, telling `on_progress` the numbers that are written and those of all.

    Tensors are read in the checkpoint's own order, one after the other, by as many threads as there are CPUs. Errors:
    ConversionFailed where a tensor has numbers that are not finite.
    """
    shapes, places = checkpoint.shapes, places_of(checkpoint, schemes)
    total, done = sum(prod(shape) for shape in shapes.values()), 0
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # Each of ours has a block of its own.
    try:
        with ThreadPoolExecutor(threads) as pool:
            for name in checkpoint.stream():
                pending: set[Future[int]] = set()
                try:
                    for rows in _blocks(shapes[name]):
                        pending.add(pool.submit(_convert, checkpoint, name, rows, places[name], parts, write))
                    while pending:
                        finished, pending = wait(pending, return_when=FIRST_EXCEPTION, timeout=0.2)
                        done += sum(future.result() for future in finished)
                        on_progress(done, total)
                finally:
                    for future in pending:
                        future.cancel()
    finally:
        torch.set_num_threads(before)


def _convert(checkpoint: Checkpoint, name: str, rows: slice, places: list[Place], parts: Parts, write: Write) -> int:
    numbers = checkpoint.tensor(name, rows)
    if not all(torch.isfinite(end) for end in numbers.aminmax()):  # NaN is both, where there is one.
        raise ConversionFailed(
            f"The tensor {name} of {checkpoint.source} has numbers that are not finite (NaN or infinity): the file "
            "is damaged, or the training went wrong. Download the checkpoint again."
        )
    for place in places:
        for part, row, stored in parts(numbers, place.scheme, place.row + rows.start):
            write(f"{place.module}.{part}", row, stored)
    return numbers.numel()


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    rows = max(TILE, BLOCK // prod(shape[1:]) // TILE * TILE)
    return (slice(first, min(first + rows, shape[0])) for first in range(0, shape[0], rows))


def places_of(checkpoint: Checkpoint, schemes: Schemes) -> dict[str, list[Place]]:
    """Where each tensor that the checkpoint stores goes; a tied embedding goes to two places unless they are one."""
    shapes = tensor_shapes(checkpoint.architecture)
    places = {
        EMBEDDING: [Place("embed", 0, schemes.embedding)],
        HEAD: [Place("head", 0, schemes.head)],
        "model.norm.weight": [Place("norm", 0, FP32)],
    }
    if checkpoint.architecture.tied:
        head = places.pop(HEAD)
        places[EMBEDDING] = head if schemes.shared else places[EMBEDDING] + head
    for i, layer in enumerate(schemes.layers):
        prefix, ours = f"model.layers.{i}.", f"layers.{i}."
        queries, keys, hidden = (
            shapes[f"{prefix}{part}.weight"][0] for part in ("self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj")
        )
        parts = {
            "input_layernorm": Place(f"{ours}attention_norm", 0, FP32),
            "self_attn.q_proj": Place(f"{ours}qkv", 0, layer.qkv),
            "self_attn.k_proj": Place(f"{ours}qkv", queries, layer.qkv),
            "self_attn.v_proj": Place(f"{ours}qkv", queries + keys, layer.qkv),
            "self_attn.o_proj": Place(f"{ours}out", 0, layer.out),
            "post_attention_layernorm": Place(f"{ours}mlp_norm", 0, FP32),
            "mlp.gate_proj": Place(f"{ours}gate_up", 0, layer.gate_up),
            "mlp.up_proj": Place(f"{ours}gate_up", hidden, layer.gate_up),
            "mlp.down_proj": Place(f"{ours}down", 0, layer.down),
        }
        places |= {f"{prefix}{part}.weight": [place] for part, place in parts.items()}
    for name, (first, *_) in places.items():
        if first.row % (together := first.scheme.rows_together):
            raise ConversionFailed(
                f"This recipe needs projections with a multiple of {together} outputs, and {name} starts at a row that "
                "is not. Convert the model with --recipe fp32."
            )
    return places
