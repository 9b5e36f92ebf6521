"""Conversations with models of two kinds, for the tests of prompts."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from falcon_runtime.text.encoder import CLOSE, Encoder
from falcon_runtime.text.prompt import ChatPrompt
from falcon_runtime.text.tokenizer import Detokenizer
from falcon_runtime.text.transcripts import Transcripts
from falcon_runtime.text.turns import Message

ROOMY = 100_000
SYSTEM: Message = {"role": "system", "content": "You answer in one sentence."}
FALCON3_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


@cache
def falcon3_like(template: str = FALCON3_TEMPLATE) -> Encoder:
    """Falcon3's special tokens over a small BPE: bytes, and merges that also join line ends and spaces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    newline, space = "Ċ", "Ġ"
    merges = [(newline, newline), (space, space), (newline, space), ("i", "n"), ("e", "s"), (".", newline), ("a", "r")]
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", chat_template=template)
    return Encoder(fast)


@cache
def starter(folder: Path) -> Encoder:
    return Encoder(AutoTokenizer.from_pretrained(folder, local_files_only=True))


def bytewise(encoder: Encoder, text: str) -> list[int]:
    """A spelling that no tokenizer would choose: every byte its own token."""
    ((characters, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return encoder.tokenizer.convert_tokens_to_ids(list(characters))


def canonical(encoder: Encoder, text: str) -> list[int]:
    return encoder.tokenizer.encode(text, add_special_tokens=False)


def spelled_out(encoder: Encoder, text: str) -> str:
    """A rendered text with its control tokens instead of their seals."""
    seal = re.compile(f"{re.escape(encoder.seal_mark)}(\\d+){CLOSE}")
    return seal.sub(lambda match: encoder.tokenizer.convert_ids_to_tokens(int(match[1])), text)


def answer(encoder: Encoder, transcripts: Transcripts, prompt: ChatPrompt, tokens: Sequence[int]) -> str:
    """The text of an answer that the model spells as `tokens`, recorded as the runtime does it."""
    detokenizer, record = Detokenizer(encoder.tokenizer, prompt.tokens), transcripts.begin(prompt.text, prompt.tokens)
    text = ""
    for token in tokens:
        piece = detokenizer.add(token)
        record(token, piece)
        text += piece
    return text
