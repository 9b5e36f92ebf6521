"""What an output layer of few bits costs a model whose embedding is no output layer as well, as Falcon3's are not.

    python -m benchmarks.output_layer FILE.gguf TEXT [--windows 12]

The output layer of any model is taken for one of its own. Perplexity is that of windows of 256 tokens, and the KL
divergence is from the model as it is in the file, all in float32: with its layers as they are, and rounded to 4 bits.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from falcon_runtime.convert.quantize import packed, unpacked
from falcon_runtime.models.recipes import INT4, INT6, INT8, Scheme

WINDOW = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--windows", type=int, default=12)
    options = parser.parse_args()
    source = {"pretrained_model_name_or_path": options.model.parent, "gguf_file": options.model.name}
    tokens = AutoTokenizer.from_pretrained(**source)(options.text.read_text()).input_ids
    windows = torch.tensor(tokens[: options.windows * WINDOW]).view(-1, WINDOW)
    whole = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    head = whole.lm_head.weight.data
    heads = {str(scheme): restored(head, scheme) for scheme in (INT8, INT6)}
    print("| layers | output layer | perplexity | KL divergence |\n|---|---|---|---|")
    with torch.no_grad():
        true = log_probabilities(whole, head, windows)
        for layers, model in (("float", whole), ("int4", in_4_bits(whole))):
            for name, weight in ({"float": head} | heads).items():
                found = log_probabilities(model, weight, windows)
                divergence = (true.exp() * (true - found)).sum(-1).mean()
                print(f"| {layers} | {name} | {perplexity(found, windows):.2f} | {divergence:.4f} |")


def restored(weight: Tensor, scheme: Scheme) -> Tensor:
    """A weight as it is after it was stored."""
    return unpacked(packed(weight, scheme), scheme)[: len(weight)]


def in_4_bits(model: nn.Module) -> nn.Module:
    """A copy with all linear layers but the output layer in 4 bits."""
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            module.weight.data = restored(module.weight.data, INT4)
    return model


def log_probabilities(model: Any, head: Tensor, windows: Tensor) -> Tensor:
    """Of the token after each: [windows, 256, vocabulary]."""
    hidden = torch.cat([model.model(window[None]).last_hidden_state for window in windows])
    return torch.log_softmax(hidden @ head.T, -1)


def perplexity(logprobs: Tensor, windows: Tensor) -> float:
    return float(logprobs[:, :-1].gather(2, windows[:, 1:, None]).mean().neg().exp())


if __name__ == "__main__":
    main()
