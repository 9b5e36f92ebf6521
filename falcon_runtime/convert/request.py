"""What somebody wants converted: where it is, what it will be called, and where it goes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from ..errors import ConversionFailed, ModelDamaged
from ..models.catalog import CATALOG, CatalogEntry
from ..models.exported import is_exported, parse_exported
from ..models.manifest import CacheBits, RecipeName, Target, is_converted, is_outdated, parse_manifest
from ..models.sources import HubRepository, Source, described, name_of, parse_source

RECIPES: Mapping[Target, tuple[RecipeName, ...]] = {"openvino": ("fp32",), "qnn": ("int8", "int4")}
"""Those of targets that do not have all of them."""


@dataclass(frozen=True)
class Request:
    """None stands for what `make_plan` finds best."""

    source: Source
    output: Path
    """The model's folder."""
    title: str
    entry: CatalogEntry | None = None
    """The catalogue's, where it knows the model."""
    recipe: RecipeName | None = None
    slots: int | None = None
    context: int | None = None
    cache: CacheBits | None = None
    """Bits of the numbers in its KV cache."""
    target: Target = "server"
    """What will run it."""
    chip: str | None = None
    """Qualcomm's, where it is one of theirs that will."""


def read_request(
    source: str,
    models_dir: Path,
    recipe: RecipeName | None = None,
    slots: int | None = None,
    context: int | None = None,
    output: Path | None = None,
    cache: CacheBits | None = None,
    target: Target = "server",
    chip: str | None = None,
) -> Request:
    """The request of a person who names `source`: a catalogue name, alone or with a recipe, or what `parse_source`
    reads. A model that goes nowhere else goes below `models_dir`. Errors: ConversionFailed."""
    if target != "server" and (slots or cache):
        raise ConversionFailed(
            "What is converted for other runtimes keeps one sequence, in float32: leave --slots and --cache out."
        )
    ending = "" if target == "server" else f"-{(chip or target).lower()}"
    offered = RECIPES.get(target, get_args(RecipeName))
    name, _, suffix = source.strip().partition(":")
    entry = CATALOG.get(name) or (None if os.path.exists(source) else CATALOG.get(name.lower()))
    asked = [choice for choice in (suffix if entry else None, recipe) if choice]
    for choice in asked:
        if choice not in offered:
            where = f" for {target}" * (target in RECIPES)
            raise ConversionFailed(f"There is no recipe {choice!r}{where}; there are {', '.join(offered)}.")
    if entry is None:
        recipe = recipe or (offered[0] if len(offered) == 1 else None)
        origin = parse_source(source)
        name = name_of(origin)
        title = output.name if output else name
        output = output or models_dir / f"{name.lower()}{ending}"
        return Request(origin, output, title, None, recipe, slots, context, cache, target, chip)
    if len(set(asked)) > 1:
        raise ConversionFailed(f"{source} and --recipe {recipe} ask for two recipes: leave one out.")
    chosen = cast(RecipeName, asked[0]) if asked else entry.recipe if entry.recipe in offered else offered[0]
    name = entry.name if chosen == entry.recipe else f"{entry.name}-{chosen}"
    output = output or models_dir / f"{name}{ending}"
    return Request(entry.source, output, entry.title, entry, chosen, slots, context, cache, target, chip)


def is_model(folder: Path) -> bool:
    """Whether a conversion for any runtime into `folder` was finished."""
    return is_converted(folder) or is_exported(folder)


def check_output(output: Path) -> None:
    """Raises ConversionFailed where `output` is something else than a model, which nothing here may replace."""
    if is_model(output) or not os.path.lexists(output):
        return
    try:
        replaceable = output.is_dir() and not any(output.iterdir())
    except OSError as error:
        raise ConversionFailed(
            f"{output} cannot be looked into ({error.strerror}). Choose another --output."
        ) from error
    if not replaceable:
        raise ConversionFailed(f"{output} exists and is no converted model. Choose another --output, or remove it.")


def check_same_source(source: Source, output: Path) -> None:
    """Raises ConversionFailed if `output` holds a model of this version that is of another source."""
    if not is_model(output) or is_outdated(output):
        return
    try:
        there = (parse_manifest(output) if is_converted(output) else parse_exported(output)).source
    except ModelDamaged:
        return  # It is damaged, and its errors say to convert it again.
    if isinstance(source, HubRepository):  # Of any commit.
        same = there.startswith((f"{source.repository}@", f"{source.repository}/"))
    else:
        same = there == described(source)
    if not same:
        raise ConversionFailed(
            f"{output} holds a model that was converted from {there}. Choose another folder with --output, or remove "
            "that one."
        )
