"""Writes a checkpoint in the shape of a catalogue model with random weights: for measuring conversion and speed.

    python -m benchmarks.random_checkpoint falcon3-7b-instruct FOLDER TOKENIZER_FOLDER [--layers N] [--gguf FILE.gguf]

bfloat16, in files of up to 5 GB, as the hub has them. The tokenizer is any that fits, such as a converted starter
model's; what the model says is noise. `--gguf` writes the same weights in llama.cpp's Q4_0 too (it needs llama.cpp, and
for a while room for as much as the checkpoint). That file knows no text: it takes token ids only.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

import gguf
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaConfig

from falcon_runtime.convert.checkpoint import tensor_shapes
from falcon_runtime.convert.hf_checkpoint import INDEX
from falcon_runtime.models.architecture import Architecture
from falcon_runtime.models.catalog import CATALOG

FILE_BYTES = 4_900_000_000
POSITIONS, ROPE_THETA = 32_768, 1000042.0
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=list(CATALOG))
    parser.add_argument("folder", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--layers", type=int, help="default: as many as the model has")
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="write the same weights in Q4_0 there")
    options = parser.parse_args()
    shape = CATALOG[options.model].architecture
    shape = replace(shape, layers=options.layers or shape.layers)
    write(shape, options.folder)
    for name in TOKENIZER:
        shutil.copyfile(options.tokenizer / name, options.folder / name)
    if options.gguf:
        from .requantize import requantize  # Only here: llama.cpp has to be built.

        whole = options.gguf.with_suffix(".bf16.gguf")
        write_gguf(shape, options.folder, whole)
        requantize(whole, options.gguf)
        whole.unlink()


def write(shape: Architecture, folder: Path) -> None:
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=shape.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=shape.tied,
    )
    config.save_pretrained(folder)
    torch.manual_seed(0)
    # Twice as many random numbers as the longest piece: each piece of a tensor begins somewhere else among them.
    piece = 1 << 23
    numbers = torch.randn(2 * piece).mul_(0.02).bfloat16()
    held: dict[str, torch.Tensor] = {}
    file_of: dict[str, str] = {}
    for name, sizes in tensor_shapes(shape).items():
        if sum(tensor.nbytes for tensor in held.values()) + 2 * prod(sizes) > FILE_BYTES:
            _save(held, folder, file_of)
        tensor = torch.ones(sizes, dtype=torch.bfloat16)
        if len(sizes) > 1:
            for part in torch.split(tensor.view(-1), piece):
                first = int(torch.randint(piece, ()))
                part.copy_(numbers[first : first + len(part)])
        held[name] = tensor
    _save(held, folder, file_of)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": file_of}))


def write_gguf(shape: Architecture, folder: Path, path: Path) -> None:
    """The checkpoint in `folder` as a GGUF file in bfloat16, one tensor at a time."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(ROPE_THETA)
    writer.add_layer_norm_rms_eps(shape.rms_norm_eps)
    # llama.cpp does not load a model without a vocabulary.
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"<{i}>" for i in range(shape.vocabulary)])
    writer.add_token_types([gguf.TokenType.NORMAL] * shape.vocabulary)
    writer.add_token_merges(["< 0"])
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    for name, tensor in _gguf_tensors(shape, folder):
        kind = gguf.GGMLQuantizationType.F32 if tensor.dtype == torch.float32 else gguf.GGMLQuantizationType.BF16
        data = tensor.view(torch.uint8).numpy()
        writer.add_tensor_info(
            f"{names.get_name(name.removesuffix('.weight'))}.weight", data.shape, data.dtype, data.nbytes, kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, tensor in _gguf_tensors(shape, folder):
        writer.write_tensor_data(tensor.view(torch.uint8).numpy())
    writer.close()


def _gguf_tensors(shape: Architecture, folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the checkpoint, under their own names, as llama.cpp has them: norms in float32, and what rotates
    together side by side (`permute` in its convert_hf_to_gguf.py)."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_tensor(name)
                if "q_proj" in name or "k_proj" in name:
                    halves = tensor.view(-1, 2, shape.head_dim // 2, shape.hidden)
                    tensor = halves.transpose(1, 2).reshape(tensor.shape)
                yield name, tensor.float() if tensor.ndim == 1 else tensor


def _save(held: dict[str, torch.Tensor], folder: Path, file_of: dict[str, str]) -> None:
    file = f"model-{len(set(file_of.values())) + 1:05}.safetensors"
    save_file(held, folder / file)
    file_of.update(dict.fromkeys(held, file))
    held.clear()


if __name__ == "__main__":
    main()
