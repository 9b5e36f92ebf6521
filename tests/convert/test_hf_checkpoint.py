"""Hugging Face folders are read as transformers reads them, or refused with a reason."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from falcon_runtime.convert.checkpoint import open_checkpoint, tensor_shapes
from falcon_runtime.errors import ConversionFailed

from ..conftest import small_tokenizer
from .conftest import TEXTS, random_llama

INDEX = "model.safetensors.index.json"


def write_folder(folder: Path, tokenizer: bool = True, **changes: object) -> Path:
    random_llama(**changes).save_pretrained(folder)
    if tokenizer:
        small_tokenizer().save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes: object) -> None:
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(values | changes))


def test_every_tensor_is_read(tmp_path: Path) -> None:
    model = random_llama()
    checkpoint = open_checkpoint(write_folder(tmp_path / "model"))
    assert set(tensor_shapes(checkpoint.config)) == set(model.state_dict())
    for name, expected in model.state_dict().items():
        assert torch.equal(checkpoint.tensor(name), expected)
        assert torch.equal(checkpoint.tensor(name, slice(5, 23)), expected[5:23])
    assert checkpoint.source == "model"
    assert checkpoint.config.to_dict() == model.config.to_dict() | {
        key: checkpoint.config.to_dict()[key] for key in ("architectures", "dtype", "transformers_version")
    }


def test_shards_in_half_precision(tmp_path: Path) -> None:
    model = random_llama().bfloat16()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    small_tokenizer().save_pretrained(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    checkpoint = open_checkpoint(tmp_path)
    for name, expected in model.state_dict().items():
        found = checkpoint.tensor(name)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected.float())
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert checkpoint.sha256() == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_a_single_file_has_its_own_digest(tmp_path: Path) -> None:
    write_folder(tmp_path)
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert open_checkpoint(tmp_path).sha256() == digest


def test_the_stream_is_file_by_file(tmp_path: Path) -> None:
    model = random_llama()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    small_tokenizer().save_pretrained(tmp_path)
    checkpoint, weights, names = open_checkpoint(tmp_path), model.state_dict(), []
    for name in checkpoint.stream():
        names.append(name)
        assert torch.equal(checkpoint.tensor(name, slice(3, 9)), weights[name][3:9])
    index = json.loads((tmp_path / INDEX).read_text())["weight_map"]
    assert sorted(names) == sorted(weights)
    assert [index[name] for name in names] == sorted(index.values())


def test_a_file_that_changes_under_the_reader_is_noticed(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_folder(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(65)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ConversionFailed, match="was changed"):
        next(checkpoint.stream())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConversionFailed, match="not there"):
        next(checkpoint.stream())


def test_a_tied_head_is_the_embedding(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_folder(tmp_path, tie_word_embeddings=True))
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert checkpoint.config.tie_word_embeddings
    assert torch.equal(checkpoint.tensor("lm_head.weight"), checkpoint.tensor("model.embed_tokens.weight"))


def test_a_head_that_is_there_is_used_whatever_the_configuration_says(tmp_path: Path) -> None:
    write_folder(tmp_path)
    edit_json(tmp_path / "config.json", tie_word_embeddings=True)
    checkpoint = open_checkpoint(tmp_path)
    assert not checkpoint.config.tie_word_embeddings
    assert torch.equal(checkpoint.tensor("lm_head.weight"), load_file(tmp_path / "model.safetensors")["lm_head.weight"])


def test_the_vocabulary_is_as_large_as_the_embedding(tmp_path: Path) -> None:
    write_folder(tmp_path)
    edit_json(tmp_path / "config.json", vocab_size=260)
    assert open_checkpoint(tmp_path).config.vocab_size == 320


def test_old_rope_buffers_are_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        ({"eos_token_id": 300}, {"eos_token_id": 301}, [256, 300, 301]),
        ({"eos_token_id": [300, 299]}, {"eos_token_id": [256, 2]}, [2, 256, 299, 300]),
        ({"eos_token_id": None}, {}, [256]),
    ],
)
def test_end_tokens(tmp_path: Path, config: dict[str, Any], generation: dict[str, Any], expected: list[int]) -> None:
    write_folder(tmp_path)
    edit_json(tmp_path / "config.json", **config)
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert open_checkpoint(tmp_path).end_tokens() == expected


def test_an_unnamed_end_token_is_not_made_up(tmp_path: Path) -> None:
    write_folder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["eos_token_id"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").unlink()
    assert open_checkpoint(tmp_path).end_tokens() == [256]  # The tokenizer's; LlamaConfig's default is 2.


@pytest.mark.parametrize("named", ["PreTrainedTokenizerFast", "LlamaTokenizerFast", "LlamaTokenizer"])
def test_the_tokenizer_is_kept_whatever_class_is_named(tmp_path: Path, named: str) -> None:
    write_folder(tmp_path / "model")
    edit_json(tmp_path / "model" / "tokenizer_config.json", tokenizer_class=named)
    open_checkpoint(tmp_path / "model").save_tokenizer(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text((tmp_path / "model" / "config.json").read_text())
    expected, found = small_tokenizer(), AutoTokenizer.from_pretrained(tmp_path / "saved")
    messages = [{"role": "user", "content": "Hi"}]
    for text in [*TEXTS, expected.apply_chat_template(messages, tokenize=False)]:
        assert found.encode(text) == expected.encode(text)
        assert found.decode(found.encode(text)) == text
    assert found.apply_chat_template(messages, tokenize=False) == expected.apply_chat_template(messages, tokenize=False)
    assert found.eos_token_id == 256


def remove(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def configure(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", **changes)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


def indexed(*names: str) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / INDEX, weight_map={str(i): name for i, name in enumerate(names)})


@pytest.mark.parametrize(
    ("damage", "reasons"),
    [
        (remove("config.json"), ["config.json"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json", "JSON"]),
        (lambda folder: (folder / "config.json").write_text("[]"), ["config.json", "JSON"]),
        (configure(architectures=["FalconForCausalLM"]), ["FalconForCausalLM", "Only LlamaForCausalLM"]),
        (configure(architectures=None), ["Only LlamaForCausalLM"]),
        (configure(attention_bias=True), ["attention_bias"]),
        (configure(mlp_bias=True), ["mlp_bias"]),
        (configure(hidden_act="gelu"), ["gelu", "silu"]),
        (configure(quantization_config={"quant_method": "gptq"}), ["quantized already"]),
        (configure(num_attention_heads="four"), ["configuration"]),
        (configure(intermediate_size=96), ["model.layers.0.mlp.gate_proj.weight", "[128, 64]", "[96, 64]"]),
        (configure(num_hidden_layers=1), ["model.layers.1."]),
        (configure(num_hidden_layers=3), ["model.layers.2."]),
        (remove("model.safetensors"), ["model.safetensors", INDEX]),
        (pickled, ["pickled", "run code", "safetensors"]),
        (truncated, ["truncated"]),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), ["no safetensors file"]),
        (indexed("model.safetensors", "model-2.safetensors"), ["model-2.safetensors"]),
        (indexed("../model/model.safetensors"), ["../model/model.safetensors"]),
        (indexed(), ["weights"]),
        (changed(lambda t: t.pop("model.norm.weight")), ["model.norm.weight"]),
        (changed(lambda t: t.pop("lm_head.weight")), ["lm_head.weight"]),
        (changed(lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.ones(64)})), ["q_proj.bias"]),
        (changed(lambda t: t.update({"model.norm.weight": torch.ones(64, dtype=torch.int8)})), ["I8", "float32"]),
        (remove("tokenizer.json"), ["tokenizer.json", "tokenizer.model"]),
    ],
)
def test_what_cannot_be_converted_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], reasons: list[str]
) -> None:
    folder = write_folder(tmp_path / "model")
    damage(folder)
    with pytest.raises(ConversionFailed) as caught:
        open_checkpoint(folder)
    for reason in ["model", *reasons]:
        assert reason in str(caught.value)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": null}')
    with pytest.raises(ConversionFailed, match="tokenizer"):
        open_checkpoint(tmp_path).save_tokenizer(tmp_path / "saved")
