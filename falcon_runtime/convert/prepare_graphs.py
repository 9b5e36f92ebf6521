"""Makes the graph templates of the catalogue: what a developer runs after a change to what tracing makes."""

import time
from collections.abc import Iterator
from pathlib import Path

from ..architecture import Architecture
from ..catalog import CATALOG
from ..manifest import RecipeName
from ..recipes import Schemes, schemes_of
from . import templates
from .lower import trace

SLOTS = (1, 4)
RECIPES: tuple[RecipeName, ...] = ("int8", "int4")


def prepare_graphs(names: list[str], folder: Path = templates.FOLDER) -> Iterator[tuple[Path, float]]:
    """Traces the graphs of these catalogue models, of all if none is named, that have no template of today's code in
    `folder`; gives the path of each and the seconds that it took. Models of one shape share a template."""
    for name in names or list(CATALOG):
        for recipe in RECIPES:
            architecture = CATALOG[name].architecture
            schemes = schemes_of(recipe, architecture)
            for slots in SLOTS:
                if (path := _missing(architecture, schemes, slots, folder)) is not None:
                    began = time.monotonic()
                    graph = trace(architecture, schemes, slots)
                    templates.write(graph, templates.key_of_graph(architecture, schemes, slots), folder)
                    yield path, time.monotonic() - began


def _missing(architecture: Architecture, schemes: Schemes, slots: int, folder: Path) -> Path | None:
    path = folder / templates.key_of_graph(architecture, schemes, slots).file_name
    return None if path.exists() else path
