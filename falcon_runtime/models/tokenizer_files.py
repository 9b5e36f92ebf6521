"""The files that a tokenizer consists of, in a checkpoint's folder or a converted model's."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ..system.files import SETTINGS_BYTES, Unreadable, read_bytes, read_json

PATTERNS = (
    "tokenizer*.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
"""All that transformers makes one of."""
TOKENIZER_BYTES = 40_000_000
"""The largest tokenizer.json. That of Gemma 3, with a vocabulary of 262,144 the largest there is, has 33 MB."""
MODEL_BYTES = 16_000_000
"""The largest tokenizer.model."""
TEMPLATE_BYTES = 1_000_000
"""The largest chat template. Real ones have kilobytes."""


_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_LETTERS = {chr(byte): byte for byte in _VISIBLE}
BYTE_LETTERS |= {chr(0x100 + i): byte for i, byte in enumerate(byte for byte in range(0x100) if byte not in _VISIBLE)}
"""The bytes that the characters of a byte-level vocabulary stand for, as GPT-2 has them."""


def check(folder: Path) -> None:
    """Raises Unreadable, with the name of the file, unless each of them can be read within bounds. Who reads them then
    takes what is in them for granted."""
    for path in _files(folder):
        try:
            if path.suffix == ".json":
                read_json(path, _limit(path))
            else:
                read_bytes(path, _limit(path))
        except Unreadable as error:
            raise Unreadable(f"{path.name} {error}") from error


def sha256(folder: Path) -> str:
    """One for all of them, in hexadecimal: of the lines NAME SHA-256, sorted. Errors: Unreadable."""
    digest = hashlib.sha256()
    for path in _files(folder):
        content = hashlib.sha256(read_bytes(path, _limit(path))).hexdigest()
        digest.update(f"{path.relative_to(folder)} {content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def token_ids(folder: Path) -> dict[str, int]:
    """The id of each token of the tokenizer.json in `folder`, special ones included. Errors: Unreadable."""
    path = folder / "tokenizer.json"
    try:
        content = read_json(path, _limit(path))
        vocabulary = content["model"]["vocab"]
        # Of the kind Unigram, a list in order of the ids, of tokens and their scores.
        pairs = vocabulary.items() if isinstance(vocabulary, dict) else ((t, i) for i, (t, _) in enumerate(vocabulary))
        return dict(pairs) | {token["content"]: token["id"] for token in content["added_tokens"]}
    except Unreadable as error:
        raise Unreadable(f"{path} {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(f"{path} has no vocabulary") from error


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted({path for pattern in PATTERNS for path in folder.glob(pattern)})


def _limit(path: Path) -> int:
    if path.name.startswith("tokenizer") and path.name != "tokenizer_config.json":
        return TOKENIZER_BYTES if path.suffix == ".json" else MODEL_BYTES
    return SETTINGS_BYTES if path.suffix == ".json" else TEMPLATE_BYTES
