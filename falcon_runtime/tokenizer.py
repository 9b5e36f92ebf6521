"""The tokenizer of a converted model, and the detokenizer that streams."""

from collections.abc import Sequence
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers.decoders import DecodeStream

from .errors import TokenizerError
from .manifest import Manifest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(folder: Path, manifest: Manifest) -> "PreTrainedTokenizerBase":
    """The tokenizer in a converted model's folder. Errors: TokenizerError where it is missing or another model's."""
    from transformers import AutoTokenizer  # Seconds: only when a model is loaded.

    again = f"Put the files of the model's own tokenizer into {folder}, or convert the model again."
    if not (folder / "tokenizer_config.json").is_file() or not (folder / "tokenizer.json").is_file():
        raise TokenizerError(f"{folder} has no tokenizer (tokenizer.json and tokenizer_config.json). {again}")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many kinds, bare Exception among them
        raise TokenizerError(f"The tokenizer in {folder} cannot be read ({error}). {again}") from error
    if len(tokenizer) != manifest.tokenizer_size:
        raise TokenizerError(
            f"The tokenizer in {folder} has {len(tokenizer):,} tokens, the model's has {manifest.tokenizer_size:,}: it "
            f"belongs to another model. {again}"
        )
    return tokenizer


class Detokenizer:
    """Token ids in, text out, never half a character: bytes of one that is not whole yet are held back, and dropped if
    the rest never comes. Special tokens have no text."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", prompt: Sequence[int]):
        """`prompt` are the tokens that the text continues: they decide whether a first token's space is kept. All of
        them, since a part could begin within a character."""
        self._tokenizer = tokenizer.backend_tokenizer
        self._stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
        text = self._tokenizer.decode(list(prompt), skip_special_tokens=True)
        self._repeated = text if text.endswith("\N{REPLACEMENT CHARACTER}") else ""
        """The prompt's text, if the stream will repeat it: it takes one that ends within a character for unread."""

    def add(self, token: int) -> str:
        """The text that this token completes."""
        text = self._stream.step(self._tokenizer, token) or ""
        if text and self._repeated:
            repeated = commonprefix([text, self._repeated])  # noqa: RUF071  Of characters is meant.
            text, self._repeated = text[len(repeated) :], ""
        return text


class Decoder:
    """Token ids to text as it stands behind other text: a first token keeps its space. Special tokens have no text;
    bytes that are no whole character give U+FFFD."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        self._tokenizer = tokenizer.backend_tokenizer
        self._before = list(tokenizer.encode("a", add_special_tokens=False))
        self._start = len(self._tokenizer.decode(self._before))

    def __call__(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode([*self._before, *tokens], skip_special_tokens=True)
        return text[self._start :]
