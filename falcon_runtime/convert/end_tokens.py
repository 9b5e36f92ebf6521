"""Tokens that end an answer, by name: files often name one of them only, and not the one that their template ends
turns with."""

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from ..models.end_tokens import NAMES


def known_ends(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """The control tokens of the vocabulary that are called like this; what is text, whatever it spells, is none."""
    added = tokenizer.added_tokens_decoder
    return {token_id for token_id, token in added.items() if token.special and token.content in NAMES}


def no_end_after_text(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """`tokenizer`, changed so that it puts nothing after a text: models that were trained on whole texts are often
    saved with one that puts the end token there, after which a model starts with something else."""
    text = tokenizer.encode("a", add_special_tokens=False)
    whole = tokenizer.encode("a")
    before = next((i for i in range(len(whole)) if text and whole[i : i + len(text)] == text), None)
    if before is not None and len(whole) > before + len(text):
        first = [(str(tokenizer.convert_ids_to_tokens(i)), i) for i in whole[:before]]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=[*(name for name, _ in first), "$A"], special_tokens=first
        )
    return tokenizer
