"""Tokenizers out of GGUF metadata split text as the tokenizers they were made from."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from falcon_runtime.convert.gguf_tokenizer import build_tokenizer
from falcon_runtime.errors import ConversionFailed

from .conftest import TEXTS, byte_vocabulary

# As in the tokenizer.json of SmolLM2, GPT-2 and Llama 3.
SMOLLM = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)


def metadata(tokens: list[str], merges: list[str], pre: str = "smollm", **fields: Any) -> dict[str, Any]:
    kinds = [3 if token.startswith("<|") else 4 if token.startswith("<+") else 1 for token in tokens]
    values = {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": kinds, "merges": merges} | fields
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("pre", "splitter"),
    [("smollm", SMOLLM), ("gpt-2", GPT2), *((name, LLAMA3) for name in ("llama-bpe", "llama3", "llama-v3", "falcon3"))],
)
def test_ids_equal_the_original_tokenizers(tmp_path: Path, pre: str, splitter: pre_tokenizers.PreTokenizer) -> None:
    original = Tokenizer(models.BPE(ignore_merges=splitter is LLAMA3))
    original.pre_tokenizer, original.decoder = splitter, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=byte_vocabulary(), show_progress=False)
    original.train_from_iterator(TEXTS * 5, trainer)
    vocabulary = original.get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), "<|a|>", "<+b+>"]
    original.add_special_tokens([AddedToken("<|a|>", normalized=False)])
    original.add_tokens([AddedToken("<+b+>", normalized=False)])
    merges = [" ".join(pair) for pair in json.loads(original.to_str())["model"]["merges"]]
    build_tokenizer(metadata(tokens, merges, pre, add_bos_token=False), "x.gguf").save_pretrained(tmp_path / "saved")
    found = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in [*TEXTS, "<|a|>x<+b+>", "1<|a|> <|a|>\n<+b+>"]:
        ids = original.encode(text).ids
        assert found.encode(text) == ids
        assert found.decode(ids) == text


def bytes_with(*more: str, merges: tuple[str, ...] = (), **fields: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes and of the tokens `more`, which have the ids from 256 on."""
    return build_tokenizer(metadata([*byte_vocabulary(), *more], list(merges), **fields), "x.gguf")


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("smollm", ["it", "'s", "Ġ", "1", "2", "3", "4", "ĠPM", "Ġ", "Ġx", "!?", "Ċ"]),
        ("gpt-2", ["it", "'s", "Ġ1234", "ĠPM", "Ġ", "Ġx", "!?", "Ċ"]),
        ("llama3", ["it", "'s", "Ġ", "123", "4", "ĠPM", "Ġ", "Ġx", "!?Ċ"]),
        ("default", ["it", "'", "s", "Ġ", "123", "4", "ĠPM", "Ġ", "Ġx", "!?", "Ċ"]),
    ],
)
def test_text_is_split_as_llama_cpp_splits_it(pre: str, expected: list[str]) -> None:
    splitter = bytes_with(pre=pre).backend_tokenizer.pre_tokenizer
    assert [piece for piece, _ in splitter.pre_tokenize_str("it's 1234 PM  x!?\n")] == expected


def test_digits_are_single_tokens() -> None:
    tokenizer = bytes_with("12", "123", "1234", merges=("1 2", "12 3", "123 4"), pre="smollm")
    assert tokenizer.tokenize("1234") == ["1", "2", "3", "4"]
    assert bytes_with("12", "123", "1234", merges=("1 2", "12 3", "123 4"), pre="gpt-2").tokenize("1234") == ["1234"]


def test_only_llama3_takes_words_without_merging() -> None:
    assert bytes_with("word", pre="falcon3").tokenize("word") == ["word"]
    assert bytes_with("word", pre="smollm").tokenize("word") == ["w", "o", "r", "d"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"pre": "smollm"}, "x"),
        ({"pre": "smollm", "add_bos_token": True}, "<|bos|>x"),
        ({"pre": "smollm", "add_bos_token": True, "add_eos_token": True}, "<|bos|>x"),
        ({"pre": "falcon3"}, "<|bos|>x"),
        ({"pre": "falcon3", "add_bos_token": False}, "x"),
        ({"pre": "falcon3", "bos_token_id": None}, "x"),
    ],
)
def test_what_is_added_to_text(tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    fields = {"bos_token_id": 256, "eos_token_id": 257} | fields
    bytes_with("<|bos|>", "<|eos|>", **fields).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.decode(tokenizer.encode("x")) == expected
    assert tokenizer.encode("x", add_special_tokens=False) == tokenizer.convert_tokens_to_ids(["x"])


def test_special_tokens_and_template_are_kept(tmp_path: Path) -> None:
    values = metadata(
        [*byte_vocabulary(), "<|bos|>", "<|eos|>", "<|pad|>", "<+tool+>", "</turn>"],
        [],
        bos_token_id=256,
        eos_token_id=257,
        unknown_token_id=257,
        padding_token_id=258,
        eot_token_id=260,
    )
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    build_tokenizer(values | {"tokenizer.chat_template": template}, "x.gguf").save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    assert ids == (256, 257, 257, 258)
    assert len(tokenizer) == 261
    assert tokenizer.encode("<|bos|><+tool+></turn>") == [256, 259, 260]
    # Control tokens and whatever ends a turn are special, user-defined tokens are text.
    assert tokenizer.decode([256, 259, 260], skip_special_tokens=True) == "<+tool+>"
    messages = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "user: Hi<|eos|>"


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"pre": "viking"}, ["x.gguf", "viking", "smollm"]),
        ({"model": "bert"}, ["x.gguf", "bert"]),
    ],
)
def test_unknown_kinds_are_refused(fields: dict[str, Any], reasons: list[str]) -> None:
    with pytest.raises(ConversionFailed) as caught:
        bytes_with(**fields)
    for reason in reasons:
        assert reason in str(caught.value)


def test_a_file_must_say_how_it_splits_text_and_have_a_vocabulary() -> None:
    values = metadata(byte_vocabulary(), [])
    for missing, reason in (("pre", "unnamed"), ("tokens", "no tokenizer")):
        fields = {name: value for name, value in values.items() if name != f"tokenizer.ggml.{missing}"}
        with pytest.raises(ConversionFailed, match=reason):
            build_tokenizer(fields, "x.gguf")
