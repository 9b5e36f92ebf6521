"""The tokenizer beside somebody's program: a tokenizer.json as it is, or one made of a tokenizer.model, SentencePiece's
or Llama 3's (a tiktoken file), and kept in the user's cache folder."""

import base64
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConversionFailed, TokenizerError
from ...system.files import Unreadable, read_bytes, read_json
from ...system.folders import user_cache
from .. import tokenizer_files
from ..end_tokens import NAMES
from ..tokenizer_files import MODEL_BYTES

if TYPE_CHECKING:
    from tokenizers import Tokenizer

JSON, MODEL, CONFIG = "tokenizer.json", "tokenizer.model", "tokenizer_config.json"
VERSION = 1
"""Of what is made of other files; raise it with every change."""
LLAMA_3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How Llama 3 splits text before it merges; its tiktoken file does not say so (Meta's llama3, tokenizer.py)."""
LLAMA_3_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}
LLAMA_3_SPECIAL = 256
"""Control tokens that follow those of the file; the others are reserved."""
LONGEST_TOKEN = 1000


def find_tokenizer(folder: Path) -> Path | None:
    """The file of the tokenizer in `folder`; of several, a tokenizer.json."""
    return next((path for name in (JSON, MODEL) if (path := folder / name).is_file()), None)


def tokenizer_folder(folder: Path) -> Path:
    """A folder with a tokenizer.json for the program in `folder`: itself where it has one, else one in the user's cache
    folder. Errors: TokenizerError."""
    found = find_tokenizer(folder)
    if found is None:
        raise TokenizerError(
            f"{folder} has no tokenizer. Put the model's own beside the program: tokenizer.json, or a tokenizer.model, "
            "be it SentencePiece's or Llama 3's."
        )
    if found.name == JSON:
        return folder
    try:
        kept = user_cache() / "tokenizers" / f"{VERSION}-{tokenizer_files.sha256(folder)[:32]}"
        if not kept.is_dir():
            _make(found, kept)
    except (OSError, Unreadable, ConversionFailed) as error:
        raise TokenizerError(f"The tokenizer {found} cannot be used: {error}") from error
    return kept


def named_ends(folder: Path) -> tuple[int, ...]:
    """The tokens that end an answer by what they are called, in the tokenizer.json of `folder`. Errors: Unreadable."""
    ids, named = tokenizer_files.token_ids(folder), set(NAMES)
    with suppress(Unreadable):
        end = read_json(folder / CONFIG).get("eos_token")
        named.add(str(end.get("content") if isinstance(end, dict) else end))
    return tuple(sorted(ids[name] for name in named & ids.keys()))


def _make(found: Path, kept: Path) -> None:
    """Makes the folder `kept`, with what belongs to the tokenizer in `found`, in one rename. Errors: OSError,
    Unreadable, ConversionFailed."""
    content = read_bytes(found, MODEL_BYTES)
    tokenizer, special = _tiktoken(content) if _is_tiktoken(content) else _sentencepiece(found)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as temporary:
        made = Path(temporary) / kept.name
        made.mkdir()
        for name in ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja"):
            with suppress(FileNotFoundError):
                shutil.copyfile(found.parent / name, made / name)
        settings: dict[str, Any] = {}
        if (found.parent / CONFIG).is_file():
            settings = read_json(found.parent / CONFIG)
        (made / CONFIG).write_text(json.dumps(special | settings))
        tokenizer.save(str(made / JSON))
        with suppress(OSError):  # Another process was faster.
            os.rename(made, kept)


def _is_tiktoken(content: bytes) -> bool:
    """Whether it is lines of a token in base64 and its number."""
    words = content[: 2 * LONGEST_TOKEN].partition(b"\n")[0].split()
    return len(words) == 2 and words[1].isdigit()


def _sentencepiece(path: Path) -> tuple["Tokenizer", dict[str, str]]:
    """With BOS before a text, as Llama's tokenizers have it. Errors: ConversionFailed."""
    from tokenizers.processors import TemplateProcessing

    from .. import sentencepiece_tokenizer

    vocabulary, special = sentencepiece_tokenizer.read_model(path, prefix="first")
    tokenizer = sentencepiece_tokenizer.build(vocabulary)
    if bos := special.get("bos_token"):
        number = vocabulary.pieces.index(bos)
        tokenizer.post_processor = TemplateProcessing(single=[bos, "$A"], special_tokens=[(bos, number)])
    return tokenizer, special


def _tiktoken(content: bytes) -> tuple["Tokenizer", dict[str, str]]:
    """Llama 3's: the one family whose programs come with such a file. Errors: ConversionFailed."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    ranks = _ranks(content)
    letters = {byte: letter for letter, byte in tokenizer_files.BYTE_LETTERS.items()}
    spelled = {token: "".join(map(letters.__getitem__, token)) for token in ranks}
    merges = sorted(
        (rank, ranks[token[:i]], spelled[token[:i]], spelled[token[i:]])
        for token, rank in ranks.items()
        for i in range(1, len(token))
        if token[:i] in ranks and token[i:] in ranks
    )
    bpe = models.BPE(
        vocab={spelled[token]: rank for token, rank in ranks.items()},
        merges=[(left, right) for *_, left, right in merges],
        ignore_merges=True,
    )
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    reserved = (f"<|reserved_special_token_{i}|>" for i in range(LLAMA_3_SPECIAL))
    names = [LLAMA_3_NAMED.get(i) or next(reserved) for i in range(LLAMA_3_SPECIAL)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    begin = names[0]
    tokenizer.post_processor = TemplateProcessing(
        single=[begin, "$A"], special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return tokenizer, {"bos_token": begin, "eos_token": "<|eot_id|>"}


def _ranks(content: bytes) -> dict[bytes, int]:
    """The tokens of a tiktoken file and their numbers, which are all from 0 on."""
    ranks = {}
    try:
        for line in content.splitlines():
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
    except ValueError as error:
        raise ConversionFailed("it is no tiktoken file, or damaged: copy it again.") from error
    whole = sorted(ranks.values()) == list(range(len(ranks))) and all(bytes([byte]) in ranks for byte in range(256))
    if not whole or max(map(len, ranks)) > LONGEST_TOKEN:
        raise ConversionFailed("its tokens are not all there: copy it again.")
    return ranks
