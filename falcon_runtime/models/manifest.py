"""`manifest.json`: what a converted model says of itself, written by the conversion and checked at every load."""

import json
import os
import shlex
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ModelDamaged, UnknownModel
from .architecture import Architecture

MANIFEST = "manifest.json"
PROGRAM = "model.pte"
CONVERTER_VERSION = 5
"""Raise it with every change to the bytes of a converted model."""

Backend = Literal["xnnpack", "qnn"]
RecipeName = Literal["int8", "int4", "fp32"]
"""How weights are stored; `recipes.py` says what each stands for."""


class Manifest(BaseModel):
    """One converted model. Its folder holds this, the program (`model.pte`) and the tokenizer's files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    title: str
    architecture: Literal["llama"] = "llama"
    shape: Architecture
    parameters: int
    backend: Backend
    recipe: RecipeName
    schemes: tuple[str, ...]
    """How its weights are stored (`recipes.Scheme`), all that occur."""
    context: int
    """Tokens of prompt and answer together that one slot holds."""
    slots: int
    """Sequences that the program keeps at once, each with its own KV cache."""
    cache_bits: int
    """Of the floats in the KV caches."""
    max_tokens: int
    """New tokens that one forward takes, over all slots."""
    max_rows: int
    """Rows of logits that one forward gives."""
    vocabulary: int
    """Width of the logits; at least the tokenizer's size."""
    tokenizer_size: int
    bos_token: int | None
    end_tokens: tuple[int, ...]
    """Every token that ends an answer."""
    sampling: dict[str, float | int] = {}
    """The sampling that the checkpoint recommends: fields of `SamplingParams`."""
    source: str
    source_sha256: str
    program_bytes: int
    program_sha256: str
    parts: dict[str, int]
    """Bytes of the program by what they are for: embedding, attention, mlp, norms, head, tables and graph."""
    converter: int
    versions: dict[str, str]
    """Of executorch, torch and transformers at conversion."""

    @property
    def memory_bytes(self) -> int:
        """About what the engine takes when it has loaded the model."""
        return self.shape.memory_bytes(self.program_bytes, self.context, self.slots, self.cache_bits)

    def save(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(self.model_dump_json(indent=2) + "\n")


def is_converted(folder: Path) -> bool:
    """Whether a conversion into `folder` was finished; the manifest is the last thing that one writes."""
    return os.path.isfile(folder / MANIFEST)  # Path.is_file raises on names that are too long.


def is_outdated(folder: Path) -> bool:
    """Whether the converted model in `folder` is of an earlier converter, whose programs this engine does not run."""
    try:
        return int(json.loads((folder / MANIFEST).read_text())["converter"]) < CONVERTER_VERSION
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the converted model in `folder`, its program being there and whole.

    Errors: UnknownModel where `folder` is no converted model, ModelDamaged where a file is missing or not as described.
    """
    again = f"Convert the model again: python -m falcon_runtime convert SOURCE --output {shlex.quote(str(folder))}"
    if not folder.is_dir():
        raise UnknownModel(f"There is no folder {folder}.")
    if not is_converted(folder):
        raise ModelDamaged(f"{folder} is not a converted model: it has no {MANIFEST}. {again}")
    if is_outdated(folder):
        raise ModelDamaged(f"{folder} was converted by an earlier version of this project. {again}")
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    except (ValidationError, UnicodeDecodeError, OSError) as error:
        raise ModelDamaged(f"{folder / MANIFEST} cannot be read as a manifest of this version. {again}") from error
    program = folder / PROGRAM
    if not program.is_file():
        raise ModelDamaged(f"{program} is missing. {again}")
    if (size := program.stat().st_size) != manifest.program_bytes:
        expected = f"the manifest says {manifest.program_bytes:,}"
        raise ModelDamaged(f"{program} is truncated or another file: it has {size:,} bytes, {expected}. {again}")
    return manifest
