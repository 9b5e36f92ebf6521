"""The tokenizer of a converted model, and the detokenizer that streams."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TokenizerError
from ..models import tokenizer_files
from ..models.reading import AnyManifest, tokenizer_folder
from ..models.stock.manifest import StockManifest
from ..models.tokenizer_files import BYTE_LETTERS
from ..system.panics import no_panics

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NAMED_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")
"""A byte in a vocabulary of the SentencePiece kind."""


def load_tokenizer(folder: Path, manifest: AnyManifest) -> "PreTrainedTokenizerBase":
    """The tokenizer in a model's folder. Errors: TokenizerError where it is missing or another model's."""
    # A second: only when a model is loaded. AutoTokenizer would import torch and more, and take ten.
    from transformers import PreTrainedTokenizerFast

    again = f"Put the files of the model's own tokenizer into {folder}"
    again += "." if isinstance(manifest, StockManifest) else ", or convert the model again."
    another = f"The tokenizer in {folder} belongs to another model, or was changed"
    own = None if isinstance(manifest, StockManifest) else manifest
    if own:
        _check_there(folder, again)
    try:
        files = tokenizer_folder(folder, manifest)
        tokenizer_files.check(files)
        if own and own.tokenizer_sha256 not in (None, tokenizer_files.sha256(folder)):
            raise TokenizerError(f"{another}: its SHA-256 is not the manifest's. {again}")
        with no_panics():
            load: Any = PreTrainedTokenizerFast.from_pretrained
            tokenizer: PreTrainedTokenizerBase = load(files, local_files_only=True)
            highest = max(tokenizer.get_vocab().values(), default=0)
            tokenizer.encode("a")
    except TokenizerError:
        raise
    except Exception as error:  # transformers and tokenizers raise many kinds, bare Exception among them
        raise TokenizerError(f"The tokenizer in {folder} cannot be read ({error!s:.300}). {again}") from error
    if own and len(tokenizer) != own.tokenizer_size:
        sizes = f"it has {len(tokenizer):,} tokens, the model's has {own.tokenizer_size:,}"
        raise TokenizerError(f"{another}: {sizes}. {again}")
    if highest >= manifest.vocabulary:
        raise TokenizerError(f"{another}: it has a token {highest:,}, the model {manifest.vocabulary:,}. {again}")
    return tokenizer


def _check_there(folder: Path, again: str) -> None:
    """That a conversion's files are there."""
    if not (folder / "tokenizer_config.json").is_file() or not (folder / "tokenizer.json").is_file():
        raise TokenizerError(f"{folder} has no tokenizer (tokenizer.json and tokenizer_config.json). {again}")


class Decoder:
    """Token ids to text as it stands after other text: a first token keeps its space. Special tokens have no text, nor
    have ids that the tokenizer does not know; bytes that are no whole character give U+FFFD."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        self._tokenizer = tokenizer.backend_tokenizer
        self._before = list(tokenizer.encode("a", add_special_tokens=False))
        self._start = len(self._tokenizer.decode(self._before))

    def __call__(self, tokens: Sequence[int]) -> str:
        return b"".join(map(self.utf8, tokens)).decode("utf-8", "replace")

    def utf8(self, token: int) -> bytes:
        """What a token adds to a text, in UTF-8; it may begin or end within a character."""
        text: str = self._tokenizer.decode([*self._before, token], skip_special_tokens=True)
        return self._in_utf8(token, text[self._start :])

    def first_utf8(self, token: int) -> bytes:
        """What a token is as the first of a text, where some tokenizers drop its space."""
        return self._in_utf8(token, self._tokenizer.decode([token], skip_special_tokens=True))

    def _in_utf8(self, token: int, text: str) -> bytes:
        """The bytes of a token with that text."""
        if "\N{REPLACEMENT CHARACTER}" not in text:
            return text.encode()
        # Either a part of a character, or this very character.
        piece: str = self._tokenizer.id_to_token(token)
        if byte := _NAMED_BYTE.fullmatch(piece):
            return bytes.fromhex(byte[1])
        return bytes(map(BYTE_LETTERS.__getitem__, piece)) if BYTE_LETTERS.keys() >= set(piece) else text.encode()


class Detokenizer:
    """Token ids in, text out, never half a character.

    Whatever the tokens, the pieces join to what their bytes are in UTF-8: each maximal part of a character that is
    never completed is one U+FFFD. Only what is not whole yet at the very end is in no piece. Special tokens have no
    text. For tokenizers with byte fallback that is what `tokenizer.decode` gives where the bytes are text; where not,
    that turns whole runs of bytes into U+FFFD, good characters among them.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", prompt: Sequence[int]):
        """`prompt` are the tokens that the text continues. They decide whether a first token's space is kept, and may
        end within a character, which then belongs to the first piece."""
        self._decoder = Decoder(tokenizer)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._first = True
        """Whether no token before the next one has text."""
        end = b""
        for token in reversed(prompt):
            end = self._decoder.utf8(token) + end
            self._first = self._first and not end
            if len(end) >= 4:  # Characters have no more bytes.
                break
        self._utf8.decode(end)

    def add(self, token: int) -> str:
        """The text that this token completes."""
        piece = self._decoder.utf8(token)
        if self._first and piece:
            piece, self._first = self._decoder.first_utf8(token), False
        return self._utf8.decode(piece)
