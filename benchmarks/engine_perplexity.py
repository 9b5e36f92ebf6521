"""Perplexity of a text's first tokens, by the engine alone: no torch, no transformers, so that it also runs where their
import takes minutes, as on an emulated processor (benchmarks/emulated_arm.sh).

python -m benchmarks.engine_perplexity MODEL_FOLDER TEXT [--tokens 400]
"""

import argparse
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from falcon_runtime.engine.program import Program
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.system.instruction_sets import chosen

CHUNK = 40
"""Tokens of a forward."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="the folder of a converted model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--tokens", type=int, default=400)
    options = parser.parse_args()
    tokens = (
        Tokenizer.from_file(str(options.model / "tokenizer.json"))
        .encode(options.text.read_text())
        .ids[: options.tokens]
    )
    program = Program(options.model, read_manifest(options.model), threads=None)
    print(f"{chosen().title}: {perplexity(program, tokens):.3f}, {len(tokens) - 1} tokens")


def perplexity(program: Program, tokens: list[int]) -> float:
    """Of all tokens but the first, each given those before it."""
    idle: list[list[int]] = [[]] * (program.slots - 1)
    lost = 0.0
    for start in range(0, len(tokens) - 1, CHUNK):
        new, coming = tokens[start : start + CHUNK], tokens[start + 1 : start + 1 + CHUNK]
        logits = program.forward([new, *idle], [start] + [0] * len(idle), range(len(coming))).astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        lost -= logprobs[range(len(coming)), coming].sum()
    return float(np.exp(lost / (len(tokens) - 1)))


if __name__ == "__main__":
    main()
