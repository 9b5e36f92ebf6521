"""What tokens that end an answer are called."""

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
