"""What the files around a stock program are called, and what stands in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOKENIZER = "tokenizer.json"
SENTENCEPIECE = "tokenizer.model"
"""SentencePiece's own file, for phones that cannot read what is made of it."""
GENERATION = "generation_config.json"
README = "README.md"


def phones_tokenizer(folder: Path) -> str:
    """The name of the file that is for ExecuTorch's runners."""
    return SENTENCEPIECE if (folder / SENTENCEPIECE).is_file() else TOKENIZER


def write_generation_config(
    folder: Path, bos: int | None, ends: tuple[int, ...], sampling: Mapping[str, float | int]
) -> None:
    """By transformers' names, as checkpoints have it."""
    settings: dict[str, Any] = {"eos_token_id": list(ends), "bos_token_id": bos, **sampling}
    if "temperature" in sampling:
        settings["do_sample"] = sampling["temperature"] > 0
    (folder / GENERATION).write_text(json.dumps({k: v for k, v in settings.items() if v is not None}, indent=2) + "\n")
