"""The models at hand: the catalogue's, and the converted ones in the models folder."""

import os
from dataclasses import dataclass
from pathlib import Path

from .catalog import CATALOG, STARTER, CatalogEntry
from .errors import UnknownModel
from .manifest import is_converted


@dataclass(frozen=True)
class Model:
    name: str
    folder: Path
    entry: CatalogEntry | None = None
    """The catalogue's, where the model is one of its own."""

    @property
    def title(self) -> str:
        return self.entry.title if self.entry else self.name


def default_models_dir() -> Path:
    """Where converted models are kept: FALCON_MODELS_DIR, else `models` beside the package."""
    configured = os.environ.get("FALCON_MODELS_DIR")
    return Path(configured) if configured else Path(__file__).parents[1] / "models"


def find_model(model: str | None, models_dir: Path) -> Model:
    """The model of a catalogue name, of a converted model's name in `models_dir`, or of its folder anywhere.

    None stands for FALCON_MODEL, else the starter model. Errors: UnknownModel.
    """
    model = model or os.environ.get("FALCON_MODEL") or STARTER.name
    if entry := CATALOG.get(model):
        return Model(entry.name, models_dir / entry.name, entry)
    for folder in (Path(model), models_dir / model):
        if folder.is_dir():
            return Model(folder.resolve().name, folder)
    raise UnknownModel(
        f"There is no model {model!r}. Give the folder of a converted model, or a name: "
        f"{', '.join(sorted(set(CATALOG) | set(converted_models(models_dir))))}."
    )


def converted_models(models_dir: Path) -> list[str]:
    """Names of the converted models in `models_dir`."""
    if not models_dir.is_dir():
        return []
    return sorted(folder.name for folder in models_dir.iterdir() if is_converted(folder))
