"""Hugging Face folders are read as transformers reads them, or refused with a reason."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import AutoTokenizer

from falcon_runtime.convert.checkpoint import tensor_shapes
from falcon_runtime.convert.opening import Origin, open_checkpoint
from falcon_runtime.errors import ConversionFailed

from ..small_models import small_tokenizer
from .conftest import TEXTS, random_llama, write_gguf

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
    assert set(tensor_shapes(checkpoint.architecture)) == set(model.state_dict())
    for name, expected in model.state_dict().items():
        assert torch.equal(checkpoint.tensor(name), expected)
        assert torch.equal(checkpoint.tensor(name, slice(5, 23)), expected[5:23])
    assert checkpoint.source == "model"
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        assert getattr(checkpoint.config, name) == getattr(model.config, name)
    for name in ("num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_parameters"):
        assert getattr(checkpoint.config, name) == getattr(model.config, name)


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
    assert Origin("model").sha256(checkpoint.files) == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_a_single_file_has_its_own_digest(tmp_path: Path) -> None:
    write_folder(tmp_path)
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert Origin("model").sha256(open_checkpoint(tmp_path).files) == digest


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
    with pytest.raises(ConversionFailed, match="is missing"):
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
        ({"eos_token_id": [None, -1, 320, "2", 3.0, True, 7]}, {"eos_token_id": "</s>"}, [7, 256]),
    ],
)
def test_end_tokens(tmp_path: Path, config: dict[str, Any], generation: dict[str, Any], expected: list[int]) -> None:
    write_folder(tmp_path)
    edit_json(tmp_path / "config.json", **config)
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert open_checkpoint(tmp_path).end_tokens() == expected


def test_what_families_end_turns_with_ends(tmp_path: Path) -> None:
    """Control tokens only, and none that may stand inside an answer."""
    tokenizer = small_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "</tool_call>", "</s>"]}
    )
    tokenizer.add_tokens(["<|eot_id|>"])  # Text, in this vocabulary.
    write_folder(tmp_path, tokenizer=False)
    tokenizer.save_pretrained(tmp_path)
    ends = open_checkpoint(tmp_path).end_tokens()
    assert tokenizer.convert_ids_to_tokens(ends) == ["<|end|>", "<|im_end|>", "</s>"]


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


@pytest.mark.parametrize("kind", ["template", "bert", "setting"])
def test_nothing_is_put_behind_text(tmp_path: Path, kind: str) -> None:
    tokenizer = small_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    begin, end = ("<|begin|>", tokenizer.bos_token_id), ("<|end|>", 256)
    if kind == "template":
        steps = [processors.TemplateProcessing(single="<|begin|> $A <|end|>", special_tokens=[begin, end])]
        tokenizer.backend_tokenizer.post_processor = processors.Sequence([processors.ByteLevel(), *steps])
    elif kind == "bert":
        tokenizer.backend_tokenizer.post_processor = processors.BertProcessing(end, begin)
    else:
        tokenizer.add_bos_token = tokenizer.add_eos_token = True
    assert tokenizer.encode("Hi")[-1] == 256
    write_folder(tmp_path, tokenizer=False)
    tokenizer.save_pretrained(tmp_path)
    open_checkpoint(tmp_path).save_tokenizer(tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in ("Hi", "", "<|end|>"):
        assert saved.encode(text) == [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]


def test_a_folder_of_gguf_files(tmp_path: Path) -> None:
    for name in ("small-Q8_0.gguf", "small-Q4_K_M.gguf"):
        write_gguf(tmp_path / name, random_llama())
    assert open_checkpoint(tmp_path).source == "small-Q4_K_M.gguf"
    (tmp_path / "small-Q4_K_M.gguf").rename(tmp_path / "other.gguf")
    (tmp_path / "small-Q8_0.gguf").rename(tmp_path / "small.gguf")
    with pytest.raises(ConversionFailed, match=r"several GGUF files.*other\.gguf, small\.gguf"):
        open_checkpoint(tmp_path)


def test_a_setting_that_is_null_is_as_if_it_was_not_there(tmp_path: Path) -> None:
    write_folder(tmp_path, num_key_value_heads=4, rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    expected = open_checkpoint(tmp_path).config
    names = ("quantization_config", "attention_bias", "mlp_bias", "tie_word_embeddings", "head_dim", "rope_scaling")
    others = ("num_key_value_heads", "rope_theta", "rope_parameters", "hidden_act", "architectures", "eos_token_id")
    edit_json(tmp_path / "config.json", **dict.fromkeys((*names, *others)))
    assert open_checkpoint(tmp_path).config == expected


def test_settings_that_do_not_matter_may_be_odd(tmp_path: Path) -> None:
    write_folder(tmp_path)
    edit_json(tmp_path / "config.json", pad_token_id=-1, attention_dropout="none", use_cache=3, initializer_range=7)
    assert open_checkpoint(tmp_path).config.num_hidden_layers == 2


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
        (configure(architectures=["MistralForCausalLM"], model_type="mistral"), ["MistralForCausalLM", "Only Llama"]),
        (configure(architectures=None, model_type="mistral"), ["none", "Only LlamaForCausalLM"]),
        (configure(architectures=None, model_type=None), ["none", "Only LlamaForCausalLM"]),
        (configure(architectures=[1, None]), ["1, None", "Only LlamaForCausalLM"]),
        (configure(attention_bias=True), ["attention_bias"]),
        (configure(mlp_bias=True), ["mlp_bias"]),
        (configure(hidden_act="gelu"), ["gelu", "silu"]),
        (configure(quantization_config={"quant_method": "gptq"}), ["quantized already"]),
        (configure(num_attention_heads="four"), ["configuration"]),
        (configure(hidden_size="64"), ["hidden_size is '64'", "whole number"]),
        (configure(hidden_size=64.0), ["hidden_size is 64.0"]),
        (configure(num_hidden_layers=True), ["num_hidden_layers is True"]),
        (configure(num_hidden_layers=0), ["num_hidden_layers is 0"]),
        (configure(num_hidden_layers=10**9), ["num_hidden_layers is 1,000,000,000", "at most 1,000 are possible"]),
        (configure(intermediate_size=None), ["does not say intermediate_size"]),
        (configure(num_key_value_heads=-2), ["num_key_value_heads is -2"]),
        (configure(num_key_value_heads=3), ["4 heads and 3 for keys and values"]),
        (configure(num_attention_heads=5, num_key_value_heads=1, head_dim=None), ["and no head_dim"]),
        (configure(head_dim=15), ["head_dim of 15"]),
        (configure(max_position_embeddings="2k"), ["max_position_embeddings is '2k'"]),
        (configure(rms_norm_eps="1e-5"), ["rms_norm_eps is '1e-5'"]),
        (configure(rms_norm_eps=0), ["rms_norm_eps is 0"]),
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
        (lambda folder: edit_json(folder / INDEX, weight_map=None), ["weights"]),
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
