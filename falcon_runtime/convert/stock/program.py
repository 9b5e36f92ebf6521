"""The stock program of a checkpoint: the graph of its shape, into which its weights are streamed."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...models.architecture import Architecture
from ...models.recipes import Schemes
from ...status import Report
from ..checkpoint import Checkpoint
from ..graph import TABLES
from ..plan import Plan
from ..program_file import ProgramFile
from ..progress import Progress
from ..weights import stream
from .graph import stock_graph
from .quantize import as_stored, stock_parts

TRIED_BYTES = 1_000_000_000
"""Weights of a program that is tried as a whole. XNNPACK has them in memory a second time."""


def write_stock_program(
    identity: str, plan: Plan, checkpoint: Checkpoint, path: Path, constants: Mapping[str, Any], report: Report
) -> None:
    """`identity` is that of `stock_graph`. Errors: DownloadFailed, ConversionFailed."""
    graph = stock_graph(checkpoint.architecture, plan.schemes, plan.context, constants, identity)
    progress, layout = Progress(plan.title, report), graph.layout()
    with ProgramFile(path, layout, graph.weights) as file:
        for name, table in zip(TABLES, checkpoint.config.rope_tables(plan.context), strict=True):
            file.write(name, 0, table)
        stream(
            checkpoint,
            plan.schemes,
            lambda name, first, numbers: file.write(name, first, as_stored(numbers, graph.weights[name].stored)),
            partial(progress.streaming, layout.size),
            stock_parts,
        )


def tried_layers(architecture: Architecture, schemes: Schemes) -> int | None:
    """How many layers of a program are tried, where that is not all of it. Layers are alike: what is wrong with the
    program of a model is wrong with that of its first layers, which takes neither minutes nor gigabytes to load."""
    whole, without = schemes.bytes(architecture), _shortened(architecture, schemes, 0)
    layer = (whole - without[1].bytes(without[0])) / architecture.layers
    fitting = max(2, int(architecture.layers - (whole - TRIED_BYTES) / layer))
    return fitting if fitting < architecture.layers else None


def write_excerpt(
    plan: Plan, architecture: Architecture, constants: Mapping[str, Any], layers: int, program: Path, path: Path
) -> None:
    """Writes the first layers of `program` to `path`, with all of its embedding and output layer, as a program of their
    own."""
    shape, schemes = _shortened(architecture, plan.schemes, layers)
    whole = stock_graph(architecture, plan.schemes, plan.context, constants, "")
    part = stock_graph(shape, schemes, plan.context, {**constants, "get_n_layers": layers}, "")
    offsets = whole.layout().offsets
    with program.open("rb") as source, ProgramFile(path, part.layout(), part.weights) as file:
        for name in part.weights:
            file.copy(name, source, offsets[name])


def _shortened(architecture: Architecture, schemes: Schemes, layers: int) -> tuple[Architecture, Schemes]:
    return replace(architecture, layers=layers), replace(schemes, layers=schemes.layers[:layers])
