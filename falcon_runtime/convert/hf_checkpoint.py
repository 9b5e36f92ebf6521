"""A Hugging Face folder as a checkpoint: config.json, safetensors, and tokenizer.json or tokenizer.model."""

import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..errors import ConversionFailed
from . import sentencepiece_tokenizer
from .checkpoint import EMBEDDING, HEAD, Checkpoint, make_config

INDEX = "model.safetensors.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


class HfCheckpoint(Checkpoint):
    def __init__(self, folder: Path):
        self.source, self._folder = folder.resolve().name, folder
        if not (folder / "config.json").is_file():
            raise ConversionFailed(f"{folder} has no config.json: it is not the folder of a Hugging Face checkpoint.")
        settings = _read_json(folder / "config.json")
        _check_architecture(self.source, settings)
        self.files = _weight_files(folder)
        if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
            raise ConversionFailed(f"{folder} has no tokenizer.json and no tokenizer.model: put the tokenizer there.")
        self._tensors = {name: tensor for path in self.files for name, tensor in _open(path).items()}
        self.shapes = {name: tuple(tensor.get_shape()) for name, tensor in self._tensors.items()}
        if EMBEDDING in self.shapes:
            settings["vocab_size"] = self.shapes[EMBEDDING][0]
        settings["tie_word_embeddings"] = bool(settings.get("tie_word_embeddings")) and HEAD not in self.shapes
        self.config = make_config(self.source, settings)
        self.check(self.config)
        self.end_ids = set()
        for name in ("config.json", "generation_config.json"):
            ends = _read_json(folder / name).get("eos_token_id")
            self.end_ids |= set(ends if isinstance(ends, list) else [] if ends is None else [ends])

    def _read(self, name: str, rows: slice) -> Tensor:
        tensor: Tensor = self._tensors[name][rows]
        return tensor.float()

    def _load_tokenizer(self) -> PreTrainedTokenizerFast:
        # This class takes tokenizer.json as it is. LlamaTokenizer, which many folders name, would take vocabulary and
        # merges out of it and put its own normalization around them.
        load: Any = PreTrainedTokenizerFast.from_pretrained
        tokenizer: PreTrainedTokenizerFast
        if (self._folder / "tokenizer.json").is_file():
            tokenizer = load(self._folder, local_files_only=True)
            return tokenizer
        settings = _read_json(self._folder / "special_tokens_map.json")
        settings |= _read_json(self._folder / "tokenizer_config.json")
        vocabulary, special_tokens = sentencepiece_tokenizer.read_model(
            self._folder / "tokenizer.model", prefix="always" if settings.get("legacy") else "first"
        )
        # In a folder without the tokenizer.model, which transformers would read in its own way.
        with tempfile.TemporaryDirectory() as folder:
            for name in TOKENIZER_SETTINGS:
                with suppress(FileNotFoundError):
                    shutil.copyfile(self._folder / name, Path(folder) / name)
            sentencepiece_tokenizer.build(vocabulary).save(str(Path(folder) / "tokenizer.json"))
            tokenizer = load(
                folder,
                local_files_only=True,
                add_bos_token=settings.get("add_bos_token", True),  # LlamaTokenizer's defaults.
                add_eos_token=settings.get("add_eos_token", False),
                **{name: token for name, token in special_tokens.items() if name not in settings},
            )
            return tokenizer


def _check_architecture(source: str, settings: dict[str, Any]) -> None:
    architectures = settings.get("architectures")
    if architectures != ["LlamaForCausalLM"]:
        found = ", ".join(architectures or ["none"])
        raise ConversionFailed(f"{source} is of architecture {found}. Only LlamaForCausalLM can be converted.")
    if "quantization_config" in settings:
        raise ConversionFailed(f"{source} is quantized already. Take the original checkpoint, or a GGUF file.")
    if settings.get("attention_bias") or settings.get("mlp_bias"):
        raise ConversionFailed(f"{source} has attention_bias or mlp_bias. Only a Llama without can be converted.")
    if (activation := settings.get("hidden_act", "silu")) != "silu":
        raise ConversionFailed(f"{source} has the activation {activation}. Only a Llama with silu can be converted.")


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the checkpoint: those of the index, or the only one."""
    names = {"model.safetensors"}
    if (folder / INDEX).is_file():
        names = {str(name) for name in _read_json(folder / INDEX).get("weight_map", {}).values()}
    # A name with folders in it is not looked at: an index has no business outside of its own.
    missing = sorted(name for name in names if Path(name).name != name or not (folder / name).is_file())
    if names and not missing:
        return [folder / name for name in sorted(names)]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pth")):
        raise ConversionFailed(
            f"{folder} has its weights in pickled files (.bin, .pth), which can run code and are never opened. Take "
            "the model as safetensors."
        )
    raise ConversionFailed(
        f"{folder} lacks {', '.join(missing) or 'its weights'}. A checkpoint has model.safetensors, or several files "
        f"and {INDEX}: download it again."
    )


def _open(path: Path) -> dict[str, Any]:
    """The tensors in a file, mapped: each is read where it is sliced."""
    try:
        file: Any = safe_open(path, framework="pt")
        tensors = {name: file.get_slice(name) for name in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise ConversionFailed(f"{path} is truncated, or no safetensors file: download it again.") from error
    for name, tensor in tensors.items():
        if tensor.get_dtype() not in FLOATS:
            raise ConversionFailed(
                f"The tensor {name} in {path} is stored as {tensor.get_dtype()}. Take the original checkpoint, in "
                "float32, float16 or bfloat16."
            )
    # Old checkpoints carry the frequencies of RoPE, which follow from the configuration.
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(".rotary_emb.inv_freq")}


def _read_json(path: Path) -> dict[str, Any]:
    """The object in `path`, empty if there is no such file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConversionFailed(f"{path} is not JSON: download it again.") from error
    if not isinstance(value, dict):
        raise ConversionFailed(f"{path} holds no JSON object: download it again.")
    return value
