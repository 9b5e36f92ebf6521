"""A folder with a program that somebody else has exported, as one of the models: what a manifest would say of it, told
from the program and the files beside it."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import ModelDamaged, TokenizerError, UnknownModel, UnsupportedProgram
from ...system.files import SETTINGS_BYTES, Unreadable, read_json
from ..architecture import MAX_ROWS, MAX_TOKENS, PROCESS_BYTES
from ..manifest import Backend
from ..recommended import recommended_sampling
from .contract import FORWARD, Contract, contract_of
from .program_file import Method, ProgramFile, read_program
from .tokenizer import named_ends, tokenizer_folder

SUFFIX, DATA_SUFFIX = ".pte", ".ptd"
DATA_MAGIC = b"FT01"
"""What a file of weights apart from their program has at byte 4 (flat_tensor.fbs)."""
SETTINGS = "stock.json"
"""What the owner of the folder decides, if anything."""
REMARKS: Mapping[str, str] = {
    "no_cache": "no KV cache, so the whole text is computed again for every token",
    "rings": "its caches are rings, so a text that changes is computed from its start",
}
"""What some programs cannot do, in a few words."""
BACKENDS: Mapping[str, Backend] = {"QnnBackend": "qnn", "OpenvinoBackend": "openvino"}
"""What those are called here that ExecuTorch calls so; everything else runs as xnnpack."""


class StockSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    slots: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 1
    """Sequences at once. Each is the whole program again, with weights of its own in memory."""


@dataclass(frozen=True)
class StockManifest:
    """A model of somebody else's program."""

    folder: Path
    program: ProgramFile
    contract: Contract
    slots: int
    data: Path | None
    """The file of its weights, where the program does not have them all."""
    data_bytes: int

    recipe: ClassVar[Literal["stock"]] = "stock"
    parameters: ClassVar[int] = 0
    """They are not known."""
    max_tokens: ClassVar[int] = MAX_TOKENS
    """New tokens in one forward. The engine calls the program as often as that takes."""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def title(self) -> str:
        return self.name

    @property
    def source(self) -> str:
        return self.program.path.name

    @property
    def backend(self) -> Backend:
        return next((BACKENDS[name] for name in self.method.backends if name in BACKENDS), "xnnpack")

    @property
    def context(self) -> int:
        return self.contract.context

    @property
    def vocabulary(self) -> int:
        return self.contract.vocabulary

    @property
    def max_rows(self) -> int:
        """Rows of logits in one forward: one for each sequence where more would take a call each, or where nothing that
        was drafted can be taken back."""
        several = self.contract.all_rows and self.contract.step > 1 and self.contract.rewinds
        return MAX_ROWS if several else self.slots

    @property
    def program_bytes(self) -> int:
        """With the file of weights."""
        return self.program.bytes + self.data_bytes

    @property
    def memory_bytes(self) -> int:
        """About what the engine takes: the file as it is mapped, and for each sequence the weights as XNNPACK packs
        them, the caches and the activations."""
        return PROCESS_BYTES + self.program_bytes + self.slots * (self.program_bytes + self.method.arena_bytes)

    @property
    def fingerprint(self) -> str:
        facts = self.program.bytes, self.program.changed_ns, self.data_bytes
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    @property
    def method(self) -> Method:
        method = self.program.method(FORWARD)
        assert method
        return method

    @property
    def remarks(self) -> tuple[str, ...]:
        """What it cannot do that others can: keys of `REMARKS`."""
        holds = {"no_cache": not self.contract.cached, "rings": not self.contract.rewinds}
        return tuple(remark for remark in REMARKS if holds[remark])

    @cached_property
    def tokenizer_folder(self) -> Path:
        """Where its tokenizer.json is. Errors: TokenizerError."""
        return tokenizer_folder(self.folder)

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Those that the program names, else generation_config.json, else the tokenizer. Errors: TokenizerError."""
        found = self.program.constants("get_eos_ids") or self.program.constants("get_eos_id")
        ends = found or _whole_numbers(_settings(self.folder / "generation_config.json").get("eos_token_id"))
        if not ends:
            try:
                ends = named_ends(self.tokenizer_folder)
            except Unreadable as error:
                raise TokenizerError(f"The tokenizer in {self.folder} cannot be used: {error}.") from error
        return tuple(sorted({end for end in ends if 0 <= end < self.vocabulary}))

    @cached_property
    def sampling(self) -> dict[str, float | int]:
        """What generation_config.json recommends: fields of `SamplingParams`."""
        return recommended_sampling(_settings(self.folder / "generation_config.json"), self.context)


def is_stock(folder: Path) -> bool:
    """Whether there is a program of somebody's in `folder`, be it one that can run or not."""
    return bool(_files(folder, SUFFIX))


def find_program(folder: Path) -> Path:
    """The program in `folder`. Errors: UnknownModel, UnsupportedProgram where there is not exactly one."""
    found = _only(folder, SUFFIX)
    if found is None:
        raise UnknownModel(f"There is no program ({SUFFIX}) in {folder}.")
    return found


def read_stock(folder: Path) -> StockManifest:
    """Errors: UnknownModel where there is no program; ModelDamaged; UnsupportedProgram."""
    program = read_program(find_program(folder))
    contract = contract_of(program)
    settings = _stock_settings(folder / SETTINGS)
    weights = _only(folder, DATA_SUFFIX)
    return StockManifest(folder, program, contract, settings.slots, weights, _data_bytes(weights))


def _only(folder: Path, suffix: str) -> Path | None:
    """The file of that kind in `folder`. Errors: UnsupportedProgram where there are several."""
    found = _files(folder, suffix)
    if len(found) > 1:
        raise UnsupportedProgram(
            f"{folder} has several {suffix} files ({', '.join(found):.300}), but a model has only one. Put each into "
            "a folder of its own, with its tokenizer."
        )
    return folder / found[0] if found else None


def _files(folder: Path, suffix: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(suffix) and entry.is_file())
    except (OSError, ValueError):  # There is none, or none that may be read.
        return []


def _data_bytes(path: Path | None) -> int:
    if path is None:
        return 0
    try:
        with path.open("rb") as file:
            magic = file.read(8)[4:]
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ModelDamaged(f"{path} cannot be read ({error.strerror}).") from error
    if magic != DATA_MAGIC:
        raise ModelDamaged(
            f"{path} is not a file of weights for this ExecuTorch: it lacks the identifier {DATA_MAGIC.decode()}."
        )
    return size


def _stock_settings(path: Path) -> StockSettings:
    try:
        return StockSettings.model_validate(_settings(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ModelDamaged(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}. Correct it, or remove the file."
        ) from error


def _settings(path: Path) -> dict[str, Any]:
    """The object in `path`, empty if there is no such file. Errors: ModelDamaged."""
    if not os.path.lexists(path):
        return {}
    try:
        return read_json(path, SETTINGS_BYTES)
    except Unreadable as error:
        raise ModelDamaged(f"{path} {error}. Correct it, or remove the file.") from error


def _whole_numbers(value: Any) -> tuple[int, ...]:
    return tuple(end for end in (value if isinstance(value, list) else [value]) if type(end) is int)
