"""GGUF files that somebody has made, or that have come to harm, are refused: at once, and with a reason."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFValueType as Type
from gguf import GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.errors import ConversionFailed, FalconError

from ..hostile import ODD, bounded, harmed, named, put
from .conftest import byte_vocabulary, random_llama, write_gguf

HUGE = (1 << 64) - 1


def text(value: str | bytes, length: int | None = None) -> bytes:
    content = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(content) if length is None else length) + content


def field(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + content


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0, dimensions: int | None = None) -> bytes:
    count = len(shape) if dimensions is None else dimensions
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", count, *shape, kind, offset)


def header(*parts: bytes, fields: int | None = None, tensors: int = 0, version: int = 3, data: int = 0) -> bytes:
    """A file of these fields, and of as many tensors after them."""
    count = len(parts) - tensors if fields is None else fields
    content = b"GGUF" + struct.pack("<IQQ", version, tensors, count) + b"".join(parts)
    return content + bytes(-len(content) % 32 + data)


F32_64 = ("a", (64,))
NESTED = array(Type.ARRAY, 1) * 100_000
STRUCTURES = {
    "nothing after the magic": (b"GGUF", "truncated"),
    "version 0": (header(version=0), "big-endian"),
    "version 1": (header(version=1), "version 1"),
    "version 4 billion": (header(version=HUGE >> 32), "version"),
    "2^64 fields": (header(fields=HUGE), "values"),
    "10^7 fields that are not there": (header(fields=10_000_000), "values"),
    "10^6 fields that are not there": (header(fields=1_000_000), "truncated"),
    "2^64 tensors": (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0), "tensors"),
    "10^4 tensors that are not there": (b"GGUF" + struct.pack("<IQQ", 3, 10_000, 0), "truncated"),
    "a key of 2^64 bytes": (header(text("k", HUGE)), "truncated"),
    "a key of 2^63 bytes": (header(text("k", 1 << 63)), "truncated"),
    "a key twice": (header(field("k", 0, b"\1"), field("k", 0, b"\2")), "twice"),
    "a key that is no UTF-8": (header(field(b"\xff", 0, b"\1")), "UTF-8"),
    "a text of 2^64 bytes": (header(field("k", Type.STRING, text("", HUGE))), "truncated"),
    "a text that is no UTF-8": (header(field("k", Type.STRING, text(b"\xed\xa0\x80"))), "UTF-8"),
    "a value of type 13": (header(field("k", 13, b"")), "type 13"),
    "a value of type 2^32": (header(field("k", HUGE >> 32, b"")), "type"),
    "an array of type 99": (header(field("k", Type.ARRAY, array(99, 1))), "type 99"),
    "an array of 2^64 bytes": (header(field("k", Type.ARRAY, array(Type.UINT8, HUGE))), "values"),
    "an array of 2^61 doubles": (header(field("k", Type.ARRAY, array(Type.FLOAT64, 1 << 61))), "values"),
    "an array of a million texts that are not there": (
        header(field("k", Type.ARRAY, array(Type.STRING, 1_000_000))),
        "truncated",
    ),
    "an array of 2^64 empty arrays": (header(field("k", Type.ARRAY, array(Type.ARRAY, HUGE))), "values"),
    "arrays a hundred thousand deep": (header(field("k", Type.ARRAY, NESTED)), "array of arrays"),
    "five million bytes one by one": (
        header(*(field(str(i), Type.ARRAY, array(Type.UINT8, 1_000_000, bytes(1_000_000))) for i in range(5))),
        "values",
    ),
    "a name of 70 million bytes": (header(field("k", Type.STRING, text(bytes(70_000_000)))), "header"),
    "no dimensions": (header(tensor("a", ()), tensors=1), "dimensions"),
    "2^32 dimensions": (header(tensor("a", (1,), dimensions=HUGE >> 32), tensors=1), "dimensions"),
    "five dimensions": (header(tensor("a", (1,) * 5), tensors=1), "dimensions"),
    "a dimension of 0": (header(tensor("a", (0, 64)), tensors=1), "shape"),
    "a dimension below 0": (header(tensor("a", (64, HUGE)), tensors=1), "shape"),
    "a product of 2^64": (header(tensor("a", (1 << 32, 1 << 32)), tensors=1), "extends past the end of the file"),
    "a product of 2^66 that is small in 64 bits": (
        header(tensor("a", ((1 << 33) + 32, 1 << 33)), tensors=1, data=10_000),
        "extends past the end of the file",
    ),
    "a type of number that there is not": (header(tensor("a", (64,), 4), tensors=1), "not known"),
    "a type of number 2^32": (header(tensor("a", (64,), HUGE >> 32), tensors=1), "not known"),
    "half a block": (header(tensor("a", (48,), 2), tensors=1), "blocks"),
    "an offset outside": (header(tensor(*F32_64, offset=1 << 40), tensors=1), "extends past the end of the file"),
    "an offset of 2^64": (header(tensor(*F32_64, offset=HUGE - 31), tensors=1), "extends past the end of the file"),
    "an offset between two places": (header(tensor(*F32_64, offset=7), tensors=1, data=1000), "not aligned"),
    "an end outside": (header(tensor(*F32_64), tensors=1, data=255), "extends past the end of the file"),
    "two tensors in one place": (header(tensor(*F32_64), tensor("b", (64,)), tensors=2, data=1000), "overlap"),
    "tensors that overlap": (
        header(tensor(*F32_64), tensor("b", (64,), offset=224), tensors=2, data=1000),
        "overlap",
    ),
    "two tensors of one name": (
        header(tensor(*F32_64), tensor("a", (64,), offset=256), tensors=2, data=1000),
        "one name",
    ),
    "an alignment of 0": (header(field("general.alignment", Type.UINT32, struct.pack("<I", 0))), "alignment"),
    "an alignment of 3": (header(field("general.alignment", Type.UINT32, struct.pack("<I", 3))), "alignment"),
    "an alignment of 2^31": (header(field("general.alignment", Type.UINT32, struct.pack("<I", 1 << 31))), "alignment"),
    "an alignment in words": (header(field("general.alignment", Type.STRING, text("32"))), "alignment"),
    "an alignment that is a list": (header(field("general.alignment", Type.ARRAY, array(4, 0))), "alignment"),
    "nothing but zeros": (b"GGUF" + bytes(1000), "big-endian"),
    "no metadata": (header(), "architecture"),
    "another architecture": (header(field("general.architecture", Type.STRING, text("x" * 10**6))), "architecture"),
    "an architecture that is a list": (header(field("general.architecture", Type.ARRAY, array(4, 0))), "architecture"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_that_make_no_sense_are_refused(tmp_path: Path, name: str) -> None:
    content, reason = STRUCTURES[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ConversionFailed, match=reason), bounded():
        open_checkpoint(path)


@pytest.mark.parametrize("make", ODD, ids=named)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    put(tmp_path / "model.gguf", make)
    with pytest.raises(ConversionFailed), bounded():
        open_checkpoint(tmp_path / "model.gguf")


def setting(key: str, value: Any, kind: Type) -> Callable[[GGUFWriter], None]:
    return lambda writer: writer.add_key_value(key, value, kind)


def listed(key: str, value: list[Any]) -> Callable[[GGUFWriter], None]:
    return lambda writer: writer.add_array(key, value)


def factors(*values: float, shape: tuple[int, ...] = (-1,)) -> Callable[[GGUFWriter], None]:
    return lambda writer: writer.add_tensor("rope_freqs.weight", np.array(values, np.float32).reshape(shape))


def one_more(name: str) -> Callable[[GGUFWriter], None]:
    return lambda writer: writer.add_tensor(name, np.zeros((64, 64), np.float32))


def another(name: str, values: np.ndarray) -> Callable[[GGUFWriter], None]:
    def edit(writer: GGUFWriter) -> None:
        del writer.tensors[0][name]
        writer.add_tensor(name, values)

    return edit


NUMBERS = {
    **{
        f"llama.{name}": [0, 1 << 31, HUGE >> 32]
        for name in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count")
    },
    "llama.attention.head_count_kv": [0, 3, 1 << 31],
    "llama.attention.key_length": [0, 1, 1 << 30, HUGE >> 32],
    "llama.context_length": [0, HUGE >> 32],
}
EDITS: dict[str, Callable[[GGUFWriter], None]] = {
    **{f"{key} {value}": setting(key, value, Type.UINT32) for key, values in NUMBERS.items() for value in values},
    **{f"{key} below 0": setting(key, -7, Type.INT32) for key in NUMBERS},
    **{f"{key} a float": setting(key, 2.0, Type.FLOAT32) for key in NUMBERS},
    **{f"{key} true": setting(key, True, Type.BOOL) for key in NUMBERS},
    **{f"{key} words": setting(key, "2", Type.STRING) for key in NUMBERS},
    **{f"{key} a list": listed(key, [2, 2]) for key in NUMBERS},
    "10^7 layers": setting("llama.block_count", 10_000_000, Type.UINT32),
    **{
        f"epsilon {value}": setting("llama.attention.layer_norm_rms_epsilon", value, Type.FLOAT32)
        for value in (float("nan"), float("inf"), -1e-5, 0.0, 3.0)
    },
    **{
        f"theta {value}": setting("llama.rope.freq_base", value, Type.FLOAT32)
        for value in (float("nan"), float("inf"), -1.0, 0.0)
    },
    "a scale of nan": setting("llama.rope.scaling.factor", float("nan"), Type.FLOAT32),
    "a scale in words": setting("llama.rope.scaling.factor", "two", Type.STRING),
    "a scaling that is a list": listed("llama.rope.scaling.type", ["linear"]),
    "parts in words": setting("split.count", "three", Type.STRING),
    "parts in a list": listed("split.count", [3]),
    "an end below 0": setting("tokenizer.ggml.eos_token_id", -1, Type.INT32),
    "an end beyond": setting("tokenizer.ggml.eos_token_id", HUGE >> 32, Type.UINT32),
    "an end in a list": listed("tokenizer.ggml.eos_token_id", [1, 2]),
    "an end in words": setting("tokenizer.ggml.eot_token_id", "</s>", Type.STRING),
    "an end that is a float": setting("tokenizer.ggml.eom_token_id", 1.5, Type.FLOAT32),
    "a beginning below 0": setting("tokenizer.ggml.bos_token_id", -1, Type.INT32),
    "tokens in words": setting("tokenizer.ggml.tokens", "abc", Type.STRING),
    "tokens that are numbers": listed("tokenizer.ggml.tokens", [1, 2, 3]),
    "one token": listed("tokenizer.ggml.tokens", ["a"]),
    "kinds of other tokens": listed("tokenizer.ggml.token_type", [1, 3]),
    "kinds in words": listed("tokenizer.ggml.token_type", ["x"] * 260),
    "merges of nothing": listed("tokenizer.ggml.merges", [""]),
    "merges of one": listed("tokenizer.ggml.merges", ["a"]),
    "merges of unknown tokens": listed("tokenizer.ggml.merges", ["never heard"]),
    "merges that are numbers": listed("tokenizer.ggml.merges", [1, 2]),
    "an unknown pre-tokenizer": setting("tokenizer.ggml.pre", "x" * 10**6, Type.STRING),
    "a pre-tokenizer that is a list": listed("tokenizer.ggml.pre", ["smollm"]),
    "a tokenizer that is a number": setting("tokenizer.ggml.model", 7, Type.UINT32),
    "a template that is a number": setting("tokenizer.chat_template", 7, Type.UINT32),
    "a template of two megabytes": setting("tokenizer.chat_template", "{# #}" * 400_000, Type.STRING),
    "a template that is a list": listed("tokenizer.chat_template", ["{{ messages }}"]),
    "factors of another number": factors(1, 2, 3),
    "factors below 0": factors(*[-1.0] * 8),
    "factors that are no numbers": factors(*[float("nan")] * 8),
    "factors of 0": factors(*[0.0] * 8),
    "factors in rows": factors(*[1.0] * 8, shape=(2, 4)),
    "a million factors": factors(*[1.0] * 1_000_000),
    "a tensor by the name of another format": one_more("model.layers.0.self_attn.q_proj.weight"),
    "a tensor too many": one_more("blk.7.attn_q.weight"),
    "an embedding without rows": another("token_embd.weight", np.zeros(64, np.float32)),
    "an embedding in three dimensions": another("token_embd.weight", np.zeros((5, 64, 64), np.float32)),
    "a norm of another length": another("output_norm.weight", np.zeros(63, np.float32)),
    "a norm in rows": another("output_norm.weight", np.zeros((1, 64), np.float32)),
    "half the heads": another("blk.0.attn_q.weight", np.zeros((32, 64), np.float32)),
}


@pytest.mark.parametrize("name", EDITS)
def test_contents_that_make_no_sense_are_refused(tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", random_llama(), edit=EDITS[name])
    with pytest.raises(ConversionFailed), bounded():
        read_all(path)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_pieces_that_are_books_are_refused(tmp_path: Path, kind: str) -> None:
    """There are as many ways to make a piece of two others as it has characters."""
    tokens = [*byte_vocabulary(), *("ab" * 200_000 + str(i) for i in range(4))]

    def edit(writer: GGUFWriter) -> None:
        writer.add_tokenizer_model(kind)
        writer.add_token_list(tokens)
        writer.add_token_types([1] * len(tokens))
        writer.add_token_scores([0.0] * len(tokens))

    path = write_gguf(tmp_path / "model.gguf", random_llama(), edit=edit)
    with bounded():
        checkpoint = open_checkpoint(path)
        if kind == "gpt2":
            return
    with pytest.raises(ConversionFailed, match="too long"), bounded():
        checkpoint.tokenizer  # noqa: B018


def read_all(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    for name in checkpoint.stream():
        assert checkpoint.tensor(name).dtype == torch.float32
    checkpoint.config.rope_tables(16)
    assert len(checkpoint.tokenizer) >= 0
    assert checkpoint.end_tokens() is not None


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """A file of the smallest Llama, and how long its header is."""
    llama = random_llama(hidden_size=32, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1)
    path = write_gguf(tmp_path_factory.mktemp("gguf") / "model.gguf", llama)
    first = gguf.GGUFReader(path).tensors[0]
    return path.read_bytes(), int(first.data_offset)


@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes(tmp_path: Path, small_gguf: tuple[bytes, int], data: st.DataObject) -> None:
    content, start = small_gguf
    path = tmp_path / "model.gguf"
    path.write_bytes(data.draw(harmed(content, within=start) | harmed(content, within=200) | harmed(content)))
    try:
        with bounded():
            read_all(path)
    except FalconError:
        pass


def test_a_file_that_was_cut_anywhere_is_refused(tmp_path: Path, small_gguf: tuple[bytes, int]) -> None:
    content, start = small_gguf
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    read_all(path)
    for length in [*range(0, 64), *range(64, start, 97), *range(start, len(content) - 32, 4001)]:
        path.write_bytes(content[:length])
        with pytest.raises(ConversionFailed), bounded():
            open_checkpoint(path)
