"""Tokenizers out of SentencePiece models give the ids that SentencePiece itself gives."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer, sentencepiece_model_pb2
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.convert import convert
from falcon_runtime.convert.gguf_tokenizer import build_tokenizer
from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.errors import ConversionFailed

from ..small_models import small_llama
from .conftest import TEXTS

LLAMA = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
"""What Llama's own SentencePiece model was trained with, beside BPE."""

HARD_TEXTS = [
    "<0x41><0x0A>",
    "e\u0302\u0301te\u0301 ﬁ ① Ａ",
    "   two   spaces ",
    "five     spaces",
    "a▁b",
    "ĦŊŦ ƍĸ",
    "a <sep> fox\n\n b",
]


def train(**options: Any) -> SentencePieceProcessor:
    corpus = [" ".join(TEXTS[i:]) for i in range(len(TEXTS))] + TEXTS * 3
    file = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=file,
        **{"vocab_size": 400, "hard_vocab_limit": False, "byte_fallback": True, "minloglevel": 2} | options,
    )
    return SentencePieceProcessor(model_proto=file.getvalue())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    small_llama(vocab_size=512).save_pretrained(folder)
    return folder


def converted(folder: Path, weights: Path, model: SentencePieceProcessor, **settings: Any) -> PreTrainedTokenizerBase:
    """What is saved of a checkpoint with a tokenizer.model, and a tokenizer_config.json where there are `settings`."""
    for path in weights.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "tokenizer.model").write_bytes(model.serialized_model_proto())
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    open_checkpoint(folder).save_tokenizer(folder / "saved")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder / "saved")
    return tokenizer


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        LLAMA,
        {"add_dummy_prefix": False},
        {**LLAMA, "add_dummy_prefix": False},
        {"byte_fallback": False},
        {"user_defined_symbols": ["<sep>", "fox"]},
        {**LLAMA, "user_defined_symbols": ["\n", "<sep>"]},
    ],
    ids=["default", "llama", "no prefix", "llama, no prefix", "no bytes", "symbols", "llama, symbols"],
)
def test_ids_equal_sentencepiece(tmp_path: Path, weights: Path, model_type: str, options: dict[str, Any]) -> None:
    model = train(model_type=model_type, **options)
    tokenizer = converted(tmp_path, weights, model)
    for text in [*TEXTS, *HARD_TEXTS]:
        ids = model.encode(text)
        assert tokenizer.encode(text) == [model.bos_id(), *ids], text
        if options.get("byte_fallback", True):
            assert tokenizer.decode(ids) == model.decode(ids)
    assert len(tokenizer) == model.vocab_size()
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token) == ("<s>", "</s>", "<unk>")


@pytest.mark.parametrize(
    ("symbols", "options", "text"),
    [(["▁▁▁", "▁▁▁▁▁"], LLAMA, "a     b   c      d"), (["\n", "①"], {}, "one two\nthree①1 x")],
    ids=["spaces", "what normalization would change"],
)
def test_unusual_symbols(tmp_path: Path, weights: Path, symbols: list[str], options: dict[str, Any], text: str) -> None:
    model = train(model_type="bpe", user_defined_symbols=symbols, **options)
    tokenizer = converted(tmp_path, weights, model)
    assert tokenizer.encode(text, add_special_tokens=False) == model.encode(text)


def test_no_text_is_lost_with_llamas_options(tmp_path: Path, weights: Path) -> None:
    tokenizer = converted(tmp_path, weights, train(model_type="bpe", **LLAMA))
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_settings_of_the_folder_hold(tmp_path: Path, weights: Path) -> None:
    model = train(model_type="bpe", control_symbols=["<|end|>"], **LLAMA)
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": False,
        "add_eos_token": True,
        "eos_token": "<|end|>",
        "chat_template": "{{ messages[0].content }}{{ eos_token }}",
    }
    tokenizer = converted(tmp_path, weights, model, **settings)
    end = model.piece_to_id("<|end|>")
    assert tokenizer.encode("the fox") == model.encode("the fox")  # An end behind a prompt would be one of its text.
    assert tokenizer.apply_chat_template([{"content": "Hi"}], tokenize=False) == "Hi<|end|>"
    assert open_checkpoint(tmp_path).end_tokens() == sorted({model.eos_id(), 256, end})


@pytest.mark.parametrize(("legacy", "begins"), [(False, "the"), (True, "▁the")])
def test_the_space_after_a_special_token(tmp_path: Path, weights: Path, legacy: bool, begins: str) -> None:
    model = train(model_type="bpe", **LLAMA)
    tokenizer = converted(tmp_path, weights, model, legacy=legacy, bos_token="<s>", eos_token="</s>")
    assert "".join(tokenizer.tokenize("</s>the fox")) == f"</s>{begins}▁fox"


@pytest.mark.parametrize("prefix", [True, False])
def test_a_gguf_file_of_a_sentencepiece_model(tmp_path: Path, prefix: bool) -> None:
    model = train(model_type="bpe", add_dummy_prefix=prefix, user_defined_symbols=["<sep>"], **LLAMA)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.serialized_model_proto())
    fields = {
        "model": "llama",
        "pre": "default",
        "tokens": [piece.piece for piece in proto.pieces],
        "scores": [piece.score for piece in proto.pieces],
        "token_type": [piece.type for piece in proto.pieces],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    } | ({} if prefix else {"add_space_prefix": False})
    values = {f"tokenizer.ggml.{name}": value for name, value in fields.items()}
    build_tokenizer(values, "x.gguf").save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    # llama.cpp puts a space after every token that is found whole, SentencePiece only at the beginning.
    for text in TEXTS if prefix else [*TEXTS, "a <sep> fox"]:
        assert tokenizer.encode(text) == [1, *model.encode(text)], text
        assert tokenizer.decode(model.encode(text)) == text
    assert "".join(tokenizer.tokenize("</s>the")) == ("</s>▁the" if prefix else "</s>the")


@pytest.mark.parametrize("content", [b"", b"\xff\xff no model", None])
def test_other_files_are_refused(tmp_path: Path, weights: Path, content: bytes | None) -> None:
    for path in weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if content is None:
        content = train(model_type="word", vocab_size=40, byte_fallback=False).serialized_model_proto()
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(ConversionFailed, match="SentencePiece"):
        open_checkpoint(tmp_path).save_tokenizer(tmp_path / "saved")


def test_a_model_with_nothing_but_a_sentencepiece_model_is_converted_and_writes(tmp_path: Path, weights: Path) -> None:
    model = train(model_type="bpe", **LLAMA)
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(weights, checkpoint)
    (checkpoint / "tokenizer.model").write_bytes(model.serialized_model_proto())
    prompt = "Once upon a time, ان, 你好"
    with FalconRuntime(str(convert(str(checkpoint), tmp_path / "models"))) as runtime:
        assert runtime.tokenize(prompt) == model.encode(prompt)
        chunks = list(runtime.generate(prompt, SamplingParams(temperature=0, max_new_tokens=24)))
    assert chunks[-1].stats.prompt_tokens == len(model.encode(prompt)) + 1, "Llama's tokenizers put <s> first"
    # The random model's vocabulary is larger than the tokenizer's; what is beyond has no text.
    written = [token for chunk in chunks for token in chunk.token_ids if token < model.get_piece_size()]
    text = "".join(chunk.text for chunk in chunks).replace("\N{REPLACEMENT CHARACTER}", "")
    assert text
    assert text in model.decode([*model.encode(prompt), *written]).replace("\N{REPLACEMENT CHARACTER}", "")


def test_it_goes_to_a_phone_as_it_is(tmp_path: Path) -> None:
    """The runner's libraries read SentencePiece's own file, and not the tokenizer.json that is made of it."""
    model, checkpoint = train(model_type="bpe", **LLAMA), tmp_path / "checkpoint"
    small_llama(vocab_size=model.vocab_size()).save_pretrained(checkpoint)
    (checkpoint / "tokenizer.model").write_bytes(model.serialized_model_proto())
    folder = convert(str(checkpoint), tmp_path, "fp32", context=80, output=tmp_path / "phone", target="stock")
    assert (folder / "tokenizer.model").read_bytes() == model.serialized_model_proto()
    assert "`tokenizer.model` the tokenizer" in (folder / "README.md").read_text()
    assert "`num_bos`" in (folder / "README.md").read_text()
    with FalconRuntime(str(folder)) as runtime:
        assert runtime.tokenize("Once upon a time") == model.encode("Once upon a time")
    # One that the model's own file does not know.
    tokenizer = open_checkpoint(checkpoint).tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    tokenizer.save_pretrained(checkpoint)
    small_llama(vocab_size=len(tokenizer)).save_pretrained(checkpoint)
    with pytest.raises(ConversionFailed, match=r"its tokenizer turns .*<\|user\|>.*, not into .* Nothing is kept"):
        convert(str(checkpoint), tmp_path, "fp32", context=80, output=tmp_path / "other", target="stock")
    assert not (tmp_path / "other").exists()
