"""Writes a checkpoint in the shape of a catalogue model with random weights: for measuring conversion and speed.

    python -m benchmarks.random_checkpoint falcon3-7b-instruct FOLDER TOKENIZER_FOLDER

bfloat16, in files of up to 5 GB, as the hub has them. The tokenizer is any that fits, such as a converted starter
model's; what the model says is noise.
"""

import argparse
import json
import shutil
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from falcon_runtime.architecture import Architecture
from falcon_runtime.catalog import CATALOG
from falcon_runtime.convert.checkpoint import tensor_shapes
from falcon_runtime.convert.hf_checkpoint import INDEX

FILE_BYTES = 4_900_000_000
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=list(CATALOG))
    parser.add_argument("folder", type=Path)
    parser.add_argument("tokenizer", type=Path)
    options = parser.parse_args()
    write(CATALOG[options.model].architecture, options.folder)
    for name in TOKENIZER:
        shutil.copyfile(options.tokenizer / name, options.folder / name)


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
        max_position_embeddings=32_768,
        rms_norm_eps=shape.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": 1000042.0},
        tie_word_embeddings=shape.tied,
    )
    config.save_pretrained(folder)
    torch.manual_seed(0)
    # Twice as many random numbers as the longest piece: each piece of a tensor begins somewhere else among them.
    piece = 1 << 23
    numbers = torch.randn(2 * piece).mul_(0.02).bfloat16()
    held: dict[str, torch.Tensor] = {}
    file_of: dict[str, str] = {}
    for name, sizes in tensor_shapes(config).items():
        if sum(tensor.nbytes for tensor in held.values()) + 2 * prod(sizes) > FILE_BYTES:
            _save(held, folder, file_of)
        tensor = torch.ones(sizes, dtype=torch.bfloat16)
        if len(sizes) > 1:
            for part in tensor.view(-1).split(piece):
                first = int(torch.randint(piece, ()))
                part.copy_(numbers[first : first + len(part)])
        held[name] = tensor
    _save(held, folder, file_of)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": file_of}))


def _save(held: dict[str, torch.Tensor], folder: Path, file_of: dict[str, str]) -> None:
    file = f"model-{len(set(file_of.values())) + 1:05}.safetensors"
    save_file(held, folder / file)
    file_of.update(dict.fromkeys(held, file))
    held.clear()


if __name__ == "__main__":
    main()
