"""`manifest.json`: what a converted model says of itself, written by the conversion and checked at every load."""

import os
import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import InvalidRequest, ModelDamaged, UnknownModel
from ..sampling import SamplingParams
from ..system.checksum import is_intact
from ..system.files import Unreadable, read_bytes, read_json
from .architecture import MAX_CONTEXT, MAX_ROWS, MAX_VOCABULARY, PROCESS_BYTES, Architecture, cache_tokens

MANIFEST = "manifest.json"
MANIFEST_BYTES = 100_000
"""The longest manifest; one has two thousand."""
PROGRAM = "model.pte"
CONVERTER_VERSION = 5
"""Raise it with every change to the bytes of a converted model."""

Backend = Literal["xnnpack", "qnn", "openvino"]
RecipeName = Literal["int8", "int4", "fp32"]
"""How weights are stored; `recipes.py` says what each stands for."""

Target = Literal["server", "stock", "openvino", "qnn"]
"""What a model is converted for: this project's engine, or ExecuTorch's own runners, as on phones."""

CacheBits = Literal[8, 16, 32]
"""Of the numbers that keys and values are kept in: integers with a scale for each token and head, or floats."""

Size = Annotated[int, Field(ge=0, le=1 << 50)]
Token = Annotated[int, Field(ge=0, lt=MAX_VOCABULARY)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """One converted model. Its folder holds this, the program (`model.pte`) and the tokenizer's files."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    format: Literal[1] = 1
    name: str
    title: str
    architecture: Literal["llama"] = "llama"
    shape: Architecture
    parameters: Size
    backend: Backend
    recipe: RecipeName
    schemes: tuple[str, ...]
    """How its weights are stored (`recipes.Scheme`), all that occur."""
    context: Annotated[int, Field(gt=0, le=MAX_CONTEXT)]
    """Tokens of prompt and answer together that one slot holds."""
    slots: Annotated[int, Field(gt=0, le=MAX_ROWS)]
    """Sequences that the program keeps at once, each with its own KV cache."""
    cache_bits: CacheBits
    """Of the numbers in the KV caches."""
    max_tokens: Annotated[int, Field(gt=0, le=1 << 16)]
    """New tokens that one forward takes, over all slots."""
    max_rows: Annotated[int, Field(gt=0, le=1 << 16)]
    """Rows of logits that one forward gives."""
    vocabulary: Annotated[int, Field(gt=0, le=MAX_VOCABULARY)]
    """Width of the logits; at least the tokenizer's size."""
    tokenizer_size: Annotated[int, Field(gt=0, le=MAX_VOCABULARY)]
    tokenizer_sha256: Sha256 | None = None
    """Of the tokenizer's files, chat template included, as `tokenizer_files.sha256` has it. None where an earlier
    version of this project converted the model: its tokenizer is known by its size alone."""
    bos_token: Token | None
    end_tokens: tuple[Token, ...]
    """Every token that ends an answer."""
    sampling: dict[str, float | int] = {}
    """The sampling that the checkpoint recommends: fields of `SamplingParams`."""
    source: str
    source_sha256: Sha256
    program_bytes: Size
    program_sha256: Sha256
    parts: dict[str, Size]
    """Bytes of the program by what they are for: embedding, attention, mlp, norms, head, tables and graph."""
    converter: int
    versions: dict[str, str]
    """Of executorch, torch and transformers at conversion."""

    @field_validator("sampling")
    @classmethod
    def _known_sampling(cls, value: dict[str, float | int]) -> dict[str, float | int]:
        try:
            SamplingParams(**value)
        except InvalidRequest as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _in_itself_true(self) -> Self:
        if self.shape.heads % self.shape.kv_heads:
            raise ValueError("the heads for keys and values must divide the heads")
        if (self.parameters, self.vocabulary) != (self.shape.parameters, self.shape.vocabulary):
            raise ValueError("parameters and vocabulary are not those of the shape")
        if max((*self.end_tokens, self.bos_token or 0)) >= self.vocabulary:
            raise ValueError("there are tokens beyond the vocabulary")
        return self

    @property
    def fingerprint(self) -> str:
        """What changes when the program does."""
        return self.program_sha256[:12]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What it cannot do that others can."""
        return ()

    @property
    def memory_bytes(self) -> int:
        """About what the engine takes when it has loaded the model."""
        return self.shape.memory_bytes(self.program_bytes, self.context, self.slots, self.cache_bits)

    def bytes_read(self, tokens: int) -> int:
        """For one more token after so many: all weights but the embedding, of which it takes a row, and the keys and
        values of its sequence."""
        parts = Counter(self.parts)
        output = parts["head"] or parts["embedding"]
        cache = self.shape.kv_cache_bytes(1, bits=self.cache_bits) // cache_tokens(1) * tokens
        return parts["attention"] + parts["mlp"] + parts["norms"] + output + cache

    @property
    def draft_bytes(self) -> int:
        """About what the model takes as a draft model, in the engine of another one."""
        return self.memory_bytes - PROCESS_BYTES

    def save(self, folder: Path) -> None:
        (folder / MANIFEST).write_text(self.model_dump_json(indent=2) + "\n")


def is_converted(folder: Path) -> bool:
    """Whether a conversion into `folder` was finished; the manifest is the last thing that one writes."""
    return os.path.isfile(folder / MANIFEST)  # Path.is_file raises on names that are too long.


def is_outdated(folder: Path) -> bool:
    """Whether the converted model in `folder` is of an earlier converter, whose programs this engine does not run."""
    try:
        converter = read_json(folder / MANIFEST, MANIFEST_BYTES).get("converter")
    except Unreadable:
        return False
    return type(converter) is int and converter < CONVERTER_VERSION


def parse_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`, whatever else is there. Errors: ModelDamaged."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(read_bytes(path, MANIFEST_BYTES))
    except Unreadable as error:
        raise ModelDamaged(f"{path} {error}. {_again(folder)}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        raise ModelDamaged(
            f"{path} cannot be read as a manifest of this version ({reason:.200}). {_again(folder)}"
        ) from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the converted model in `folder`, its program being there and as long as it should be.

    Errors: UnknownModel where `folder` is no converted model, ModelDamaged where a file is missing or not as described.
    """
    if not os.path.isdir(folder):
        raise UnknownModel(f"There is no folder {folder}.")
    if not is_converted(folder):
        raise ModelDamaged(f"{folder} is not a converted model: it has no {MANIFEST}. {_again(folder)}")
    if is_outdated(folder):
        raise ModelDamaged(f"{folder} was converted by an earlier version of this project. {_again(folder)}")
    manifest, program = parse_manifest(folder), folder / PROGRAM
    if not os.path.isfile(program):
        raise ModelDamaged(f"{program} is missing. {_again(folder)}")
    if (size := os.path.getsize(program)) != manifest.program_bytes:
        expected = f"the manifest says {manifest.program_bytes:,}"
        raise ModelDamaged(
            f"{program} is truncated or another file: it has {size:,} bytes, {expected}. {_again(folder)}"
        )
    return manifest


def check_program(folder: Path, manifest: Manifest) -> None:
    """Raises ModelDamaged unless every byte of the program is what the conversion wrote. It is read, at the disk's
    speed, if it has changed since that was last found."""
    program = folder / PROGRAM
    try:
        intact = is_intact(program, manifest.program_sha256)
    except OSError as error:
        raise ModelDamaged(f"{program} cannot be read ({error.strerror}). {_again(folder)}") from error
    if not intact:
        raise ModelDamaged(f"{program} is damaged: its SHA-256 is not the manifest's. {_again(folder)}")


def _again(folder: Path) -> str:
    return f"Convert the model again: python -m falcon_runtime convert SOURCE --output {shlex.quote(str(folder))}"
