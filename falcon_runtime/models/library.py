"""The models at hand: the catalogue's, and the converted ones in the models folder."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

from ..errors import ConversionFailed, FalconError, UnknownModel
from ..system.folders import user_cache
from ..system.replacement import recover
from ..system.unicode import whole
from .catalog import CATALOG, STARTER, CatalogEntry
from .exported import catalogued
from .manifest import MANIFEST, RecipeName, is_outdated
from .reading import AnyManifest, Recipe, is_model, read_model
from .sources import HubRepository, name_of, parse_source
from .stock.manifest import SUFFIX


@dataclass(frozen=True)
class Model:
    name: str
    folder: Path
    entry: CatalogEntry | None = None
    """The catalogue's, where the model is one of its own, in the model's recipe."""
    recipe: RecipeName | None = None
    """Where another recipe than the catalogue's was asked for."""

    @property
    def title(self) -> str:
        if not self.entry:
            return self.name
        return f"{self.entry.title} {self.recipe}" if self.recipe else self.entry.title

    @cached_property
    def known(self) -> CatalogEntry | None:
        """What the catalogue knows of it, which is one of its own or was made of one for other runtimes."""
        return self.entry or CATALOG.get(catalogued(self.folder))

    @property
    def needs_provisioning(self) -> bool:
        """Whether it must be downloaded and converted before it can be loaded: minutes, not seconds."""
        return self.entry is not None and (not is_model(self.folder) or is_outdated(self.folder))

    def manifest(self) -> AnyManifest | None:
        """None where the model is not converted, or damaged, or none that can run."""
        try:
            return read_model(self.folder)
        except FalconError:
            return None


@dataclass(frozen=True)
class Choice:
    """What there is to know of a model before it is chosen."""

    name: str
    title: str
    recipe: Recipe
    context: int
    """Tokens of prompt and answer together."""
    slots: int
    """Requests that run at once."""
    parameters: int
    """0 where they are not known: of somebody else's program."""
    converted: bool
    """Whether it is here, be it converted or somebody else's program."""
    download_bytes: int
    """0 if it is converted; like the other sizes, about."""
    program_bytes: int
    memory_bytes: int
    """What it takes when it is loaded."""
    licence: str
    licence_url: str
    licence_summary: str
    """All three empty where the catalogue does not know the model."""
    remarks: tuple[str, ...] = ()
    """What it cannot do that others can: keys of `stock.manifest.REMARKS`."""


def default_models_dir() -> Path:
    """Where converted models are kept: FALCON_MODELS_DIR, else the folder `models` of a checkout, else, where the
    package is installed, the user's cache folder."""
    if configured := os.environ.get("FALCON_MODELS_DIR"):
        return Path(configured)
    checkout = Path(__file__).parents[2]
    return checkout / "models" if (checkout / "pyproject.toml").is_file() else user_cache() / "models"


def find_model(model: str | None, models_dir: Path) -> Model:
    """The model of a catalogue name, alone or with a recipe (`NAME:int8`), of a converted model's name in `models_dir`,
    or of its folder or program (.pte) anywhere.

    None stands for FALCON_MODEL, else the starter model. Errors: UnknownModel.
    """
    recover(models_dir)
    model = model or os.environ.get("FALCON_MODEL") or STARTER.name
    name, _, recipe = model.partition(":")
    if entry := CATALOG.get(name):
        for known in _models_of(entry, models_dir):
            if known.name == model.removesuffix(f":{entry.recipe}"):
                return known
        raise UnknownModel(f"There is no recipe {recipe!r} of {name}; there are {', '.join(get_args(RecipeName))}.")
    recover(Path(model).parent)
    folders = [Path(model), models_dir / model, models_dir / model.lower()]
    if model.endswith(SUFFIX) and os.path.isfile(model):
        folders.append(Path(model).parent)
    found = [folder for folder in folders if is_model(folder)]
    if not found and not _checkpoint(model):
        found = [folder for folder in folders if os.path.isdir(folder)]
    if found:
        return _catalogued(models_dir).get(found[0]) or Model(found[0].resolve().name, found[0])
    if checkpoint := _checkpoint(model):
        raise UnknownModel(
            f"{model} is not converted yet, or was converted under another name. Convert it first: "
            f"python -m falcon_runtime convert {shlex.quote(model)}. It is then called {checkpoint}."
        )
    raise UnknownModel(
        f"There is no model {model!r:.200}. Name the folder of a converted model, or one of: "
        f"{', '.join(sorted(set(CATALOG) | set(converted_models(models_dir))))}."
    )


def _checkpoint(model: str) -> str | None:
    """What a model will be called once it is converted, if `model` names something that can be."""
    try:
        source = parse_source(model)
        if isinstance(source, HubRepository) or source.suffix.lower() == ".gguf" or (source / "config.json").is_file():
            return name_of(source).lower()
    except ConversionFailed:
        pass
    return None


def converted_models(models_dir: Path) -> list[str]:
    """Names of the folders of the models in `models_dir`, be they whole or damaged, converted or somebody else's."""
    recover(models_dir)
    return [name for name in _names(models_dir) if is_model(models_dir / name) and whole(name) == name]


def passed_over(models_dir: Path) -> dict[str, str]:
    """Why folders in `models_dir` are no models here, by their names, in a few words for people."""
    reasons = {}
    for name in set(_names(models_dir)).difference(converted_models(models_dir)):
        folder = models_dir / name
        if is_model(folder):
            reasons[name] = "its name is not valid UTF-8: rename it"
        elif os.path.isdir(folder):
            reasons[name] = f"it has no {MANIFEST} and no program ({SUFFIX}): remove it, or convert into it"
        elif os.path.islink(folder):
            reasons[name] = "it is a link that leads to no folder: remove it"
    return dict(sorted(reasons.items()))


def _names(models_dir: Path) -> list[str]:
    """What is in a folder, sorted, but for what is hidden: the folders of conversions that are going on."""
    try:
        return sorted(name for name in os.listdir(models_dir) if not name.startswith("."))
    except (OSError, ValueError):  # There is none, or none that may be read.
        return []


def choices(models_dir: Path) -> list[Choice]:
    """Every model of the catalogue and every converted one in `models_dir`, those of the catalogue first and in its
    order. A damaged one counts as not converted, and only if the catalogue can tell what it would be."""
    converted, known = converted_models(models_dir), _catalogued(models_dir)
    models = [model for model in known.values() if not model.recipe or model.folder.name in converted]
    others = [Model(name, models_dir / name) for name in converted if models_dir / name not in known]
    return [choice for model in [*models, *others] if (choice := _choice(model))]


def _choice(model: Model) -> Choice | None:
    manifest, entry, known = model.manifest(), model.entry, model.known
    facts = manifest or entry
    if not facts:
        return None
    return Choice(
        name=model.name,
        title=model.title,
        recipe=facts.recipe,
        context=facts.context,
        slots=facts.slots,
        parameters=facts.parameters,
        converted=manifest is not None,
        download_bytes=entry.download_bytes if entry and not manifest else 0,
        program_bytes=facts.program_bytes,
        memory_bytes=facts.memory_bytes,
        licence=known.licence if known else "",
        licence_url=known.licence_url if known else "",
        licence_summary=known.licence_summary if known else "",
        remarks=manifest.remarks if manifest else (),
    )


def _models_of(entry: CatalogEntry, models_dir: Path) -> Iterator[Model]:
    """One for each recipe; the plain name is the model in the catalogue's recipe."""
    yield Model(entry.name, models_dir / entry.name, entry)
    for recipe in get_args(RecipeName):
        if recipe != entry.recipe:
            folder = models_dir / f"{entry.name}-{recipe}"
            yield Model(f"{entry.name}:{recipe}", folder, entry.with_recipe(recipe), recipe)


def _catalogued(models_dir: Path) -> dict[Path, Model]:
    """The catalogue's models in every recipe, by their folders."""
    return {model.folder: model for entry in CATALOG.values() for model in _models_of(entry, models_dir)}
