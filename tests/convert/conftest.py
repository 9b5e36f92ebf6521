"""Checkpoints in GGUF, written as llama.cpp's converter writes them, what reading one back can be compared with, and a
hub that has a small model."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from tokenizers import pre_tokenizers
from transformers import LlamaForCausalLM

from falcon_runtime.convert.checkpoint import Checkpoint
from falcon_runtime.convert.graph import TABLES
from falcon_runtime.convert.traced.llama import Llama
from falcon_runtime.convert.weights import stream
from falcon_runtime.models.recipes import Schemes

from ..hub import Files, StandInHub, serve
from ..small_models import small_llama, small_tokenizer
from .published import NAME

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    " one leading space",
    "several   spaces    inside  and at the end   ",
    "in 2024 there were 1234567 of them, 3.14 each",
    "two\nlines\n\nand\ttabs",
    "emoji 🙂👍🏽 and 👨‍👩‍👧",
    "مرحبا بالعالم، كيف الحال؟",
    "你好，世界。こんにちは",
    "Привет, мир! Ça va, naïve café? don't WE'LL",
    "def f(x):\n    return x**2  # squared",
    "<0x0A> \x00 \ufeff",
    "   ",
    "",
]
"""Text of many kinds, to tokenize."""

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

Edit = Callable[[GGUFWriter], Any]


def random_llama(**changes: object) -> LlamaForCausalLM:
    """A small Llama in which no two tensors are alike; transformers starts all norms with ones."""
    model = small_llama(**changes)
    for weight in model.parameters():
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, mean=1, std=0.3)
    return model


def filled(checkpoint: Checkpoint, schemes: Schemes, slots: int, context: int) -> Llama:
    """The exported Llama with this checkpoint's weights: what tracing would take if it took weights."""
    model = Llama(checkpoint.architecture, schemes, slots, context).eval()
    parameters = dict(model.named_parameters())

    def write(name: str, first: int, numbers: torch.Tensor) -> None:
        parameters[name].data[first : first + len(numbers)] = numbers

    stream(checkpoint, schemes, write)
    for name, table in zip(TABLES, checkpoint.config.rope_tables(context), strict=True):
        write(name, 0, table)
    if schemes.shared:
        write("embed.weight", 0, parameters["head.weight"])
    return model


def byte_vocabulary() -> list[str]:
    """One token a byte, spelled as byte-level BPE does."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def write_gguf(
    path: Path,
    model: LlamaForCausalLM,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    edit: Edit = lambda writer: None,
    leave_out: str = "",
    unused_tokens: bool = False,
    endianess: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE,
) -> Path:
    """`model` as a GGUF file with a tokenizer of bytes. `edit` adds to it or overwrites metadata; `unused_tokens` fill
    the vocabulary of a model that has more than these."""
    config = model.config
    writer = GGUFWriter(path, "llama", endianess=endianess)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = [*byte_vocabulary(), "ab", "<|end|>", "<|turn|>", "<|message|>"]
    if unused_tokens:
        tokens += [f"<|unused{i}|>" for i in range(config.vocab_size - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(tokens.index("<|end|>"))
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        base = name.removesuffix(".weight").removeprefix("model.layers.")
        layer, _, part = base.partition(".") if base[0].isdigit() else ("", "", base)
        stored = f"blk.{layer}.{GGUF_NAMES[part]}.weight" if layer else f"{GGUF_NAMES[part]}.weight"
        if stored == leave_out:
            continue
        values = tensor.float().numpy()
        if part.endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads if part.endswith("q_proj") else config.num_key_value_heads
            values = llama_cpp_permuted(values, heads)
        type_ = kind if values.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(stored, gguf.quantize(values, type_), raw_dtype=type_)
    edit(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama_cpp_permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a query or key projection [out, in] in the order in which GGUF files have them."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of `small_checkpoint`, in several files of weights."""
    folder = tmp_path_factory.mktemp("sharded")
    small_llama().save_pretrained(folder, max_shard_size="120KB")
    small_tokenizer().save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never wanted")
    return folder


@pytest.fixture
def files(sharded: Path) -> Files:
    return {path.name: path.read_bytes() for path in sharded.iterdir()}


@pytest.fixture
def shards(files: Files) -> list[str]:
    names = sorted(name for name in files if name.endswith(".safetensors"))
    assert len(names) >= 4
    return names


@pytest.fixture
def hub(files: Files, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """The hub that this process knows; it has the small model."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serve() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        # What comes in one piece is kept as one, and shards of a test are small.
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 14)
        hub.publish(NAME, files)
        yield hub
