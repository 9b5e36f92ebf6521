"""Makes the graph templates of the catalogue: what a developer runs after a change to what tracing makes."""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from ..architecture import Architecture
from ..catalog import CATALOG
from ..manifest import RecipeName
from ..recipes import Schemes
from . import templates

RECIPES: tuple[RecipeName, ...] = ("int8", "int4")


def catalogue_graphs(names: list[str]) -> dict[templates.Key, tuple[Architecture, Schemes]]:
    """What graphs these catalogue models need, or all if none is named. Models of one shape share them."""
    graphs: dict[templates.Key, tuple[Architecture, Schemes]] = {}
    for name in names or list(CATALOG):
        shape = CATALOG[name].architecture
        for schemes in (CATALOG[name].with_recipe(recipe).schemes for recipe in RECIPES):
            graphs[templates.key_of_graph(shape, schemes)] = shape, schemes
    return graphs


def prepare_graphs(names: list[str], folder: Path = templates.FOLDER) -> Iterator[tuple[Path, float]]:
    """Traces those of `catalogue_graphs` that have no usable template in `folder`; gives each path and its seconds."""
    for key, (shape, schemes) in catalogue_graphs(names).items():
        if templates.is_usable(folder / key.file_name, key):
            continue
        began = time.monotonic()
        # A process for each: torch.export keeps what it has traced, and weights with it, which adds up to tens of GB.
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            path = process.submit(_prepare, key, shape, schemes, folder).result()
        yield path, time.monotonic() - began


def _prepare(key: templates.Key, shape: Architecture, schemes: Schemes, folder: Path) -> Path:
    from .lower import trace

    return templates.write(trace(shape, schemes), key, folder)
