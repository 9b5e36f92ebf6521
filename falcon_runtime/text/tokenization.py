"""From text to tokens and back, for one model."""

from pathlib import Path
from typing import NamedTuple

from ..models.reading import AnyManifest
from .encoder import Encoder
from .tokenizer import Decoder, load_tokenizer
from .transcripts import Transcripts
from .well_known import BorrowedTemplate


class Tokenization(NamedTuple):
    encoder: Encoder
    decoder: Decoder
    transcripts: Transcripts
    borrowed_template: BorrowedTemplate | None
    """The choice of a chat template, where the model has none of its own."""


def tokenization_of(folder: Path, manifest: AnyManifest, chat_template: str | None = None) -> Tokenization:
    """That of a model; `chat_template` names one for a model that has none. Errors: TokenizerError."""
    tokenizer = load_tokenizer(folder, manifest)
    borrowed = None if tokenizer.chat_template else BorrowedTemplate(tokenizer)
    if borrowed and chat_template:
        borrowed.choose(chat_template)
    encoder = Encoder(tokenizer)
    return Tokenization(encoder, Decoder(encoder.tokenizer), Transcripts(encoder), borrowed)
