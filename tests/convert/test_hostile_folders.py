"""Hugging Face folders that somebody has made, or that have come to harm, are refused: at once, and with a reason."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.convert.request import check_output
from falcon_runtime.errors import ConversionFailed, FalconError

from ..hostile import BAD_JSON, ODD, bounded, harmed, named, put
from ..small_models import small_tokenizer
from .conftest import random_llama

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders") / "model"
    llama = random_llama(hidden_size=32, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1)
    llama.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def read_all(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    for name in checkpoint.stream():
        assert checkpoint.tensor(name).isfinite() is not None
    checkpoint.config.rope_tables(16)
    assert checkpoint.end_tokens() is not None
    assert max(checkpoint.tokenizer.get_vocab().values()) >= 0


def test_the_folder_itself_is_read(model: Path) -> None:
    with bounded():
        read_all(model)


@pytest.mark.parametrize("make", BAD_JSON, ids=named)
@pytest.mark.parametrize("name", [CONFIG, "tokenizer.json", "tokenizer_config.json", "generation_config.json", INDEX])
def test_what_is_no_json_is_refused(model: Path, name: str, make: Callable[[Path], None]) -> None:
    put(model / name, make)
    if name not in (CONFIG, "tokenizer.json") and not os.path.exists(model / name):
        return  # A link that leads nowhere is as good as no file, which there need not be.
    if name == INDEX and not os.path.isfile(model / name):
        return
    with pytest.raises(ConversionFailed), bounded():
        read_all(model)


@pytest.mark.parametrize("make", ODD, ids=named)
@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.model"])
def test_what_is_no_file_is_refused(model: Path, name: str, make: Callable[[Path], None]) -> None:
    put(model / name, make)
    (model / "tokenizer.json").unlink()
    with pytest.raises(ConversionFailed), bounded():
        read_all(model)


COUNTS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
NO_COUNTS: list[Any] = [0, -1, 1 << 30, 1 << 64, 10**400, True, 2.0, "2", [2], {"a": 2}, INFINITY, NAN]
NO_NUMBERS: list[Any] = [0, -1e-5, 1e300, NAN, INFINITY, True, "1e-5", [1]]
ROPES: list[Any] = [
    "linear",
    [1],
    {"rope_type": []},
    {"rope_type": "linear"},
    {"rope_type": "linear", "factor": NAN},
    {"rope_type": "linear", "factor": 0},
    {"rope_type": "dynamic", "factor": "2"},
    {"rope_type": "yarn", "factor": INFINITY},
    {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 0},
    {"rope_type": "longrope", "short_factor": [1], "long_factor": [1]},
    {"rope_type": "longrope", "short_factor": [[1.0]] * 8, "long_factor": [1.0] * 8},
    {"rope_type": "longrope", "short_factor": [1.0] * 200_000, "long_factor": [1.0] * 200_000},
    {"rope_type": "llama3", "factor": 1e-320, "low_freq_factor": 1, "high_freq_factor": 4},
    {"rope_type": "llama3", "factor": 8, "low_freq_factor": True, "high_freq_factor": 4},
    {"rope_type": "default", "rope_theta": -5},
    {"rope_type": "default", "partial_rotary_factor": {}},
]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in COUNTS for value in NO_COUNTS),
        *(("head_dim", value) for value in (0, -2, 3, 1 << 12, 1 << 30, 1 << 64, 16.0, "16", [16])),
        *(("max_position_embeddings", value) for value in NO_COUNTS),
        *(("rms_norm_eps", value) for value in NO_NUMBERS),
        *(("rope_theta", value) for value in NO_NUMBERS[:2]),
        *(("rope_parameters", value) for value in ROPES),
        *(("architectures", value) for value in ("x", 7, ["x" * 1_000_000], [["LlamaForCausalLM"]])),
        *(("hidden_act", value) for value in ("x" * 1_000_000, 7, ["silu"], {"silu": 1})),
        ("quantization_config", []),
    ],
)
def test_settings_that_make_no_sense_are_refused(model: Path, name: str, value: Any) -> None:
    config = json.loads((model / CONFIG).read_text())
    if name == "rope_theta":
        config["rope_parameters"] = None
    (model / CONFIG).write_text(json.dumps(config | {name: value}))
    with pytest.raises(ConversionFailed), bounded():
        read_all(model)


@pytest.mark.parametrize(
    "value", [[], 7, "abc", {"a": 1}, {"a": "../x"}, {"a": None}, {"a": "x" * 100_000}, {"a": "\0"}]
)
def test_an_index_of_nothing(model: Path, value: Any) -> None:
    (model / INDEX).write_text(json.dumps({"weight_map": value}))
    with pytest.raises(ConversionFailed), bounded():
        read_all(model)


def weights(tensors: Any, data: int = 0, length: int | None = None) -> bytes:
    """A safetensors file with this header."""
    content = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + bytes(data)


def one(dtype: Any = "F32", shape: Any = (64,), offsets: Any = (0, 256)) -> dict[str, Any]:
    return {"model.norm.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


BAD_WEIGHTS = {
    "no header": b"",
    "seven bytes": b"\0" * 7,
    "a header of 0": weights(b""),
    "a header of 2^63": weights({}, length=1 << 63),
    "a header of 2^64 - 1": weights({}, length=(1 << 64) - 1),
    "a header of 10^8": weights({}, length=10**8, data=1000),
    "a header that ends outside": weights({}, length=1000),
    "a header of 9 MB": weights(b" " * 9_000_000 + b"{}"),
    "a list": weights([]),
    "a number": weights(7),
    "no UTF-8": weights(b'{"\xff":1}'),
    "a hundred thousand deep": weights(b'{"a":' * 100_000),
    "two million dimensions": weights(one(shape=[1] * 2_000_000), 256),
    "no tensors": weights({}),
    "an unknown type": weights(one(dtype="F1024"), 256),
    "a type of numbers": weights(one(dtype=32), 256),
    "integers": weights(one(dtype="I32"), 256),
    "4 bits": weights(one(dtype="F4", shape=(512,)), 256),
    "a dimension below 0": weights(one(shape=(-64,)), 256),
    "a dimension of 0": weights(one(shape=(0,), offsets=(0, 0))),
    "a float": weights(one(shape=(64.0,)), 256),
    "true": weights(one(shape=(True,), offsets=(0, 4)), 4),
    "a shape in words": weights(one(shape="64"), 256),
    "a product above 2^64": weights(one(shape=(1 << 33, 1 << 33)), 256),
    "a product that is small in 64 bits": weights(one(shape=(1 << 32, 1 << 32, 1 << 32), offsets=(0, 0)), 256),
    "offsets outside": weights(one(offsets=(256, 512)), 256),
    "offsets below 0": weights(one(offsets=(-256, 0)), 256),
    "offsets the wrong way": weights(one(offsets=(256, 0)), 256),
    "three offsets": weights(one(offsets=(0, 128, 256)), 256),
    "too few bytes": weights(one(), 255),
    "too many bytes": weights(one(), 257),
    "overlap": weights({**one(), "b": {"dtype": "F32", "shape": [64], "data_offsets": [128, 384]}}, 384),
    "a tensor twice": weights(b'{"a":%s,"a":%s}' % ((json.dumps(one()["model.norm.weight"]).encode(),) * 2), 256),
    "a hole": weights({**one(), "b": {"dtype": "F32", "shape": [64], "data_offsets": [512, 768]}}, 768),
    "nothing but a note": weights({"__metadata__": {"a": "b"}}),
    "a note of numbers": weights({"__metadata__": {"a": 1}, **one()}, 256),
    "another tensor": weights({"x" * 100_000: one()["model.norm.weight"]}, 256),
}


@pytest.mark.parametrize("name", BAD_WEIGHTS)
def test_weights_that_make_no_sense_are_refused(model: Path, name: str) -> None:
    (model / WEIGHTS).write_bytes(BAD_WEIGHTS[name])
    with pytest.raises(ConversionFailed), bounded():
        read_all(model)


def test_folders_that_cannot_be_looked_into(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", denied)
    with pytest.raises(ConversionFailed, match="Permission denied"):
        open_checkpoint(model)
    monkeypatch.setattr("pathlib.Path.iterdir", denied)
    with pytest.raises(ConversionFailed, match="Permission denied"):
        check_output(model)


@pytest.mark.parametrize("make", ODD, ids=named)
def test_an_output_that_is_no_model_is_left_alone(tmp_path: Path, make: Callable[[Path], None]) -> None:
    put(tmp_path / "output", make)
    if make.__name__ == "folder":
        check_output(tmp_path / "output")  # An empty one is as good as none.
        return
    with pytest.raises(ConversionFailed, match="exists and is no converted model"), bounded():
        check_output(tmp_path / "output")


PARTS = [CONFIG, WEIGHTS, "generation_config.json", "tokenizer.json", "tokenizer_config.json"]


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes(original: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = Path(shutil.copytree(original, tmp_path / "model", dirs_exist_ok=True))
    name = data.draw(st.sampled_from(PARTS))
    (folder / name).write_bytes(data.draw(harmed((folder / name).read_bytes(), within=4000)))
    try:
        with bounded():
            read_all(folder)
    except FalconError:
        pass


# Tokenizers


def tokenizer_file(**changes: Any) -> bytes:
    return json.dumps(json.loads(small_tokenizer().backend_tokenizer.to_str()) | changes).encode()


def added(**changes: Any) -> dict[str, Any]:
    token = {"id": 256, "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False}
    return {"added_tokens": [token | {"normalized": False, "special": True} | changes]}


BAD_TOKENIZERS = {
    "an object": b"{}",
    "no model": tokenizer_file(model=None),
    "an unknown model": tokenizer_file(model={"type": "GPT"}),
    "a model that is a list": tokenizer_file(model=[]),
    "a vocabulary of words": tokenizer_file(model={"type": "BPE", "vocab": {"a": "b"}, "merges": []}),
    "ids below 0": tokenizer_file(model={"type": "BPE", "vocab": {"a": -1}, "merges": []}),
    "ids of 2^40": tokenizer_file(model={"type": "BPE", "vocab": {"a": 1 << 40}, "merges": []}),
    "merges of unknown tokens": tokenizer_file(model={"type": "BPE", "vocab": {"a": 0}, "merges": ["b c"]}),
    "merges of one": tokenizer_file(model={"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}),
    "an empty unigram": tokenizer_file(model={"type": "Unigram", "vocab": [], "unk_id": 0}),
    "an unknown unigram": tokenizer_file(model={"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}),
    "a normalizer of another kind": tokenizer_file(normalizer={"type": "Nothing"}),
    "a charsmap of nothing": tokenizer_file(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "an expression that is none": tokenizer_file(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Isolated", "invert": False}
    ),
    "a template of unknown tokens": tokenizer_file(
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<none>", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    ),
    "an added token of 2^40": tokenizer_file(**added(id=1 << 40)),
    "an added token below 0": tokenizer_file(**added(id=-1)),
    "an added token of numbers": tokenizer_file(**added(content=7)),
}


@pytest.mark.parametrize("name", BAD_TOKENIZERS)
def test_tokenizers_that_make_no_sense_are_refused(model: Path, name: str) -> None:
    (model / "tokenizer.json").write_bytes(BAD_TOKENIZERS[name])
    with pytest.raises(ConversionFailed), bounded():
        read_all(model)


def test_the_file_of_another_program_is_no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.model").write_text("not a SentencePiece model")
    with pytest.raises(ConversionFailed), bounded():
        read_all(model)


@pytest.mark.parametrize(
    "settings",
    [
        {"eos_token": 7},
        {"eos_token": ["</s>"]},
        {"added_tokens_decoder": {"a": {"content": "x"}}},
        {"added_tokens_decoder": {"5": 7}},
        {"added_tokens_decoder": []},
        {"additional_special_tokens": "x"},
        {"model_max_length": "x"},
        {"chat_template": 7},
        {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}, "tokenizer_class": "Evil"},
        {"fast_tokenizer_files": ["tokenizer.1.json", "tokenizer.5.json"]},
        {"tokenizer_file": "/dev/zero", "vocab_file": "/dev/zero"},
        {"name_or_path": "x" * 100_000},
    ],
    ids=named,
)
def test_odd_settings_of_a_tokenizer_do_no_harm(model: Path, settings: dict[str, Any]) -> None:
    path = model / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    try:
        with bounded():
            read_all(model)
    except ConversionFailed:
        pass
