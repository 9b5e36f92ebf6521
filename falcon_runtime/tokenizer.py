"""The tokenizer of a converted model, and the detokenizer that streams."""

from collections.abc import Sequence
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

    def add(self, token: int) -> str:
        """The text that this token completes."""
        return self._stream.step(self._tokenizer, token) or ""
