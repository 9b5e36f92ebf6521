"""A Hugging Face folder as a checkpoint: config.json, safetensors, and tokenizer.json or tokenizer.model."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..errors import ConversionFailed
from ..models import sentencepiece_tokenizer, tokenizer_files
from ..system.files import SETTINGS_BYTES, Unreadable, read_json
from .checkpoint import EMBEDDING, HEAD, Checkpoint, Shape
from .llama_config import make_config

INDEX = "model.safetensors.index.json"
HEADER_BYTES = 8_000_000
"""The longest header and index. A Llama of a thousand layers has a million and a half."""
FLOATS = ("F64", "F32", "F16", "BF16")
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


Header = dict[str, tuple[str, Shape]]
"""The data type, in safetensors' spelling, and the shape of each tensor in a file."""


class Folder:
    """A folder with a checkpoint: config.json, safetensors and tokenizer, all of it there."""

    def __init__(self, path: Path):
        self.path, self.source = path, path.resolve().name

    def __str__(self) -> str:
        """What it is called in errors."""
        return str(self.path)

    def names(self) -> set[str]:
        """Of the files that are available."""
        return {path.name for path in self.path.iterdir() if os.path.isfile(path)}

    def header(self, name: str) -> Header:
        """Of the safetensors file `name`. Errors: ConversionFailed."""
        return read_header(self.path / name)

    def weights(self, names: list[str]) -> Iterator[Path]:
        """The safetensors files `names`, each being there until the next one is asked for."""
        for name in names:
            yield self.path / name


class HfCheckpoint(Checkpoint):
    def __init__(self, folder: Folder):
        self.source, self._folder, self._path = folder.source, folder, folder.path
        if not os.path.lexists(self._path / "config.json"):
            raise ConversionFailed(f"{folder} has no config.json: it is not a Hugging Face checkpoint.")
        settings = _read_json(self._path / "config.json")
        _check_architecture(self.source, settings)
        shards = _weight_files(folder)
        if not any((self._path / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
            raise ConversionFailed(f"{folder} has no tokenizer.json and no tokenizer.model: put the tokenizer there.")
        self._headers = {shard: self._header(shard) for shard in shards}
        self._shard_of = {name: shard for shard, header in self._headers.items() for name in header}
        self.shapes = {name: self._headers[shard][name][1] for name, shard in self._shard_of.items()}
        settings["vocab_size"] = (self.shapes.get(EMBEDDING) or (1,))[0]  # `check` says if it is not there.
        settings["tie_word_embeddings"] = bool(settings.get("tie_word_embeddings")) and HEAD not in self.shapes
        self.config = make_config(self.source, settings)
        self.check()
        if (model := self._path / "tokenizer.model").is_file():
            self.sentencepiece = model
        self.files = [self._path / shard for shard in shards]
        self.generation = _read_json(self._path / "generation_config.json")
        named = (settings.get("eos_token_id"), self.generation.get("eos_token_id"))
        ends = [end for ends in named for end in (ends if isinstance(ends, list) else [ends])]
        self.end_ids = {end for end in ends if type(end) is int and 0 <= end < self.config.vocab_size}

    def stream(self) -> Iterator[str]:
        for path in self._folder.weights(list(self._headers)):
            if self._header(path.name, here=True) != self._headers[path.name]:
                raise ConversionFailed(f"{path} was changed while it was read. Start again.")
            yield from (name for name in self._headers[path.name] if self._shard_of[name] == path.name)

    def _read(self, name: str, rows: slice) -> Tensor:
        # Opened anew each time: what is mapped stays in memory, and on the disk, until it is closed.
        with safe_open(self._path / self._shard_of[name], framework="pt") as file:
            tensor: Tensor = file.get_slice(name)[rows]
        return tensor.float()

    def _header(self, shard: str, here: bool = False) -> Header:
        """Of the tensors in `shard` that count; they can be read."""
        header = read_header(self._path / shard) if here else self._folder.header(shard)
        for name, (kind, _) in header.items():
            if kind not in FLOATS:
                raise ConversionFailed(
                    f"The tensor {name} in {shard} of {self._folder} is stored as {kind}. Take the original "
                    "checkpoint, in float32, float16 or bfloat16."
                )
        # Old checkpoints carry the frequencies of RoPE, which follow from the configuration.
        return {name: tensor for name, tensor in header.items() if not name.endswith(".rotary_emb.inv_freq")}

    def _load_tokenizer(self) -> PreTrainedTokenizerFast:
        # This class takes tokenizer.json as it is. LlamaTokenizer, which many folders name, would take vocabulary and
        # merges out of it and put its own normalization around them.
        tokenizer_files.check(self._path)
        load: Any = PreTrainedTokenizerFast.from_pretrained
        tokenizer: PreTrainedTokenizerFast
        if (self._path / "tokenizer.json").is_file():
            tokenizer = load(self._path, local_files_only=True)
            return tokenizer
        settings = _read_json(self._path / "special_tokens_map.json")
        settings |= _read_json(self._path / "tokenizer_config.json")
        vocabulary, special_tokens = sentencepiece_tokenizer.read_model(
            self._path / "tokenizer.model", prefix="always" if settings.get("legacy") else "first"
        )
        # In a folder without the tokenizer.model, which transformers would read in its own way.
        with tempfile.TemporaryDirectory() as folder:
            for name in TOKENIZER_SETTINGS:
                with suppress(FileNotFoundError):
                    shutil.copyfile(self._path / name, Path(folder) / name)
            sentencepiece_tokenizer.build(vocabulary).save(str(Path(folder) / "tokenizer.json"))
            tokenizer = load(
                folder,
                local_files_only=True,
                add_bos_token=settings.get("add_bos_token", True),  # LlamaTokenizer's defaults.
                add_eos_token=settings.get("add_eos_token", False),
                **{name: token for name, token in special_tokens.items() if name not in settings},
            )
            return tokenizer


def _check_architecture(source: str, settings: Mapping[str, Any]) -> None:
    """A setting that is None is as if it was not there."""
    found = settings.get("architectures") or (["LlamaForCausalLM"] if settings.get("model_type") == "llama" else "none")
    if found not in (["LlamaForCausalLM"], "LlamaForCausalLM"):
        named = ", ".join(map(str, found)) if isinstance(found, list) else str(found)
        raise ConversionFailed(f"{source} is of architecture {named:.200}. Only LlamaForCausalLM can be converted.")
    if settings.get("quantization_config") is not None:
        raise ConversionFailed(f"{source} is quantized already. Take the original checkpoint, or a GGUF file.")
    if settings.get("attention_bias") or settings.get("mlp_bias"):
        raise ConversionFailed(f"{source} has attention_bias or mlp_bias. Only a Llama without them can be converted.")
    if (activation := settings.get("hidden_act") or "silu") != "silu":
        raise ConversionFailed(
            f"{source} has the activation {activation!s:.100}. Only a Llama with silu can be converted."
        )


def _weight_files(folder: Folder) -> list[str]:
    """Names of the safetensors files that make up the checkpoint, sorted: those of the index, or the only one."""
    names, there = {"model.safetensors"}, folder.names()
    if INDEX in there:
        index = _read_json(folder.path / INDEX, HEADER_BYTES).get("weight_map")
        names = {str(name) for name in index.values()} if isinstance(index, dict) else set()
    # A name with folders in it is not looked at: an index has no business outside of its own.
    missing = sorted(name for name in names if Path(name).name != name or name not in there)
    if names and not missing:
        return sorted(names)
    kinds = {Path(name).suffix for name in there}
    if kinds & {".bin", ".pth"} and ".safetensors" not in kinds:
        raise ConversionFailed(
            f"{folder} has its weights in pickled files (.bin, .pth), which can run code and are never opened. Take "
            "the model as safetensors."
        )
    raise ConversionFailed(
        f"{folder} lacks {', '.join(missing) or 'its weights':.300}. A checkpoint has model.safetensors, or several "
        f"files and {INDEX}: download it again."
    )


def read_header(path: Path) -> Header:
    """Of a safetensors file that is here and whole. Errors: ConversionFailed."""
    try:
        _check_header_size(path)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (It is no dict.)
            return {name: (tensor.get_dtype(), tuple(tensor.get_shape())) for name, tensor in tensors.items()}
    except FileNotFoundError as error:
        raise ConversionFailed(f"{path} is missing. Start again.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ConversionFailed(f"{path} is truncated, or no safetensors file: download it again.") from error


def _check_header_size(path: Path) -> None:
    """Raises ValueError where the header is longer than one of a Llama can be: the library takes 100 MB."""
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > HEADER_BYTES:
            raise ValueError("header too long")


def _read_json(path: Path, limit: int = SETTINGS_BYTES) -> dict[str, Any]:
    """The object in `path`, empty if there is no such file. Errors: ConversionFailed."""
    if not os.path.lexists(path):
        return {}
    try:
        return read_json(path, limit)
    except Unreadable as error:
        raise ConversionFailed(f"{path} {error}: download it again.") from error
