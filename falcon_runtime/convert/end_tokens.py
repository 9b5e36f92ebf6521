"""Tokens that end an answer, by name: files often name one of them only, and not the one that their template ends
turns with."""

from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

NAMES = frozenset(
    {
        # Ends of a text.
        "</s>",
        "<eos>",
        "<|eos|>",
        "[EOS]",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<｜end▁of▁sentence｜>",
        # Ends of a turn.
        "<|im_end|>",
        "<|eot_id|>",
        "<|eot|>",
        "<|EOT|>",
        "<EOT>",
        "[EOT]",
        "<|end|>",
        "<|end_of_turn|>",
        "<end_of_turn>",
        "<|endofturn|>",
        "<turn|>",
        "<|END_OF_TURN_TOKEN|>",
        "<end_of_utterance>",
        "<|assistant_end|>",
        # The end of a message with which a model calls a tool, and waits.
        "<|eom_id|>",
    }
)
"""Of the families of models that there are. None may stand inside an answer, as the ends of headers, of thoughts and
of each of several tool calls do. llama.cpp keeps such a list too (`special_eog_ids` in llama-vocab.cpp)."""


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
