"""`export.json`: what a folder that was converted for other runtimes says of itself. Its program is a stock one, which
needs no such file to run: it is for people, and so that a folder is replaced only by the same model."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ModelDamaged
from ..system.files import Unreadable, read_bytes
from .manifest import MANIFEST_BYTES, RecipeName, Sha256, Size, Target

EXPORTED = "export.json"


class Exported(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal[1] = 1
    name: str
    title: str
    target: Target
    recipe: RecipeName
    parameters: Size
    context: Annotated[int, Field(gt=0)]
    licence: str
    """For people; empty where it is not known."""
    catalogued: str = ""
    """The name of the catalogue's model that it was made of, if it was."""
    source: str
    source_sha256: Sha256
    program_bytes: Size
    program_sha256: Sha256
    versions: dict[str, str]
    """Of executorch, torch and transformers at conversion."""

    def save(self, folder: Path) -> None:
        (folder / EXPORTED).write_text(self.model_dump_json(indent=2) + "\n")


def is_exported(folder: Path) -> bool:
    """Whether a conversion for another runtime into `folder` was finished."""
    return os.path.isfile(folder / EXPORTED)


def catalogued(folder: Path) -> str:
    """The name of the catalogue's model that a folder for another runtime was made of; empty where nothing tells."""
    try:
        return parse_exported(folder).catalogued if is_exported(folder) else ""
    except ModelDamaged:
        return ""


def parse_exported(folder: Path) -> Exported:
    """Errors: ModelDamaged."""
    path = folder / EXPORTED
    try:
        return Exported.model_validate_json(read_bytes(path, MANIFEST_BYTES))
    except (Unreadable, ValidationError) as error:
        raise ModelDamaged(f"{path} cannot be read ({error!s:.200}). Convert the model again.") from error
