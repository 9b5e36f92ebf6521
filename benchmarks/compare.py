"""Converted models and llama.cpp side by side: bytes, perplexity, and how fast they prefill and decode.

    pip install -r requirements-bench.txt      (builds llama.cpp: a compiler and a quarter of an hour)
    python -m benchmarks.compare MODEL_FOLDER FILE.gguf [--rounds 5] [--threads 2] [--streams 8]
        [--text TEXT --windows 40] [--json FILE] [--plot FILE.svg]

Any number of folders and files: all are kept loaded, all get the same tokens and the same number of threads, and in
every round they take turns. Rates are medians in tokens per second: of reading 500 tokens, and of writing 64 greedy
ones after several lengths of context, those that fit into all. llama.cpp runs with and without flash attention, and for
each number the faster one counts. A token of its costs an `eval` and an argmax, and one of ours the whole way through
the engine. Perplexity is that of `falcon_runtime.cli.perplexity`, of the same windows.

Nothing else should run meanwhile: llama.cpp's threads spin while they wait for each other, and where something takes
the core of one of them, all lose most of their speed.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from operator import methodcaller
from pathlib import Path
from typing import Protocol

import llama_cpp
import numpy as np

from falcon_runtime import FalconRuntime
from falcon_runtime.cli.bench import CONTEXTS, DECODED, PREFILLED, Meter
from falcon_runtime.cli.perplexity import measure as our_perplexity
from falcon_runtime.models.manifest import Manifest, read_manifest
from falcon_runtime.system.machine import cpu_name, default_threads

WINDOW = 256


@dataclass
class Row:
    """One model. Rates in tokens per second, the decode rates by tokens of context."""

    name: str
    bytes: int
    prefill: float
    decode: dict[int, float]
    perplexity: float | None = None
    peak_rss_bytes: int | None = None
    """Of our engine; llama.cpp runs in this process, beside other things."""
    streams_gain: float | None = None
    """The rate of several answers at once, together, over that of one; where the model has slots."""


@dataclass
class Comparison:
    machine: str
    threads: int
    rounds: int
    streams: int
    rows: list[Row]


class Side(Protocol):
    """What takes a turn in each round."""

    contexts: list[int]

    def prefill(self) -> float: ...

    def decode(self, tokens: int) -> float: ...


class LlamaCpp:
    """One setting of llama.cpp, which gets the prompts whose tokens `prompts` gives for a length."""

    def __init__(self, path: Path, context: int, threads: int, flash: bool, prompts: Callable[[int], list[int]]):
        self._llama = llama_cpp.Llama(
            str(path), n_ctx=context, n_batch=512, n_threads=threads, n_threads_batch=threads, flash_attn=flash,
            verbose=False,
        )  # fmt: skip
        self._prompts = prompts
        room = min(context, llama_cpp.llama_model_n_ctx_train(self._llama.model))
        self.contexts = [tokens for tokens in CONTEXTS if tokens + DECODED <= room]

    def prefill(self) -> float:
        prompt = self._prompts(PREFILLED)
        self._llama.n_tokens = 0  # What `reset` does.
        began = time.perf_counter()
        self._llama.eval(prompt)
        self._likeliest()  # Waits for the logits.
        return len(prompt) / (time.perf_counter() - began)

    def decode(self, tokens: int) -> float:
        """What the cache has of the prompt stays, as with ours."""
        prompt = self._prompts(tokens)
        known = min(self._llama.n_tokens, len(prompt) - 1)
        same = self._llama.input_ids[:known] == prompt[:known]
        self._llama.n_tokens = int(np.append(same, False).argmin())
        self._llama.eval(prompt[self._llama.n_tokens :])
        token = self._likeliest()
        began = time.perf_counter()
        for _ in range(DECODED):
            self._llama.eval([token])
            token = self._likeliest()
        return DECODED / (time.perf_counter() - began)

    def _likeliest(self) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._llama.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (self._llama.n_vocab(),)).argmax())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="folders of converted models, and .gguf files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--streams", type=int, default=8, help="answers at once, for models with several slots")
    parser.add_argument("--text", type=Path, help="measure the perplexity of this text too")
    parser.add_argument("--windows", type=int, default=40, help=f"how much of it, in windows of {WINDOW} tokens")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw decode rates against context: .svg or .png")
    options = parser.parse_args()
    folders = [path for path in options.models if path.is_dir()]
    files = [path for path in options.models if not path.is_dir()]
    if not folders or not files:
        parser.error("name at least one folder of a converted model and one .gguf file")
    text = options.text.read_text() if options.text else None
    result = compare(folders, files, options.rounds, options.threads, options.streams, text, options.windows)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=2) + "\n")
    if options.plot:
        plot(result, options.plot)


def compare(
    folders: Sequence[Path],
    files: Sequence[Path],
    rounds: int,
    threads: int,
    streams: int,
    text: str | None,
    windows: int,
) -> Comparison:
    runtimes = [FalconRuntime(str(folder), threads=threads) for folder in folders]
    manifests = [read_manifest(folder) for folder in folders]
    for runtime in runtimes:
        runtime.load()
    ours = [Meter(runtime, manifest) for runtime, manifest in zip(runtimes, manifests, strict=True)]

    def prompts(tokens: int) -> list[int]:
        return runtimes[0].tokenize(ours[0].prompt(tokens))

    context = min(manifest.context for manifest in manifests)
    # One for each setting of a model.
    sides: list[list[Side]] = [[meter] for meter in ours]
    sides += [[LlamaCpp(file, context, threads, flash, prompts) for flash in (False, True)] for file in files]

    def medians(what: str, measure: Callable[[Side], float]) -> list[float]:
        """Of each model, and of its settings the faster one."""
        print(f"Measuring {what}", file=sys.stderr)
        taken = [[[measure(side) for side in settings] for settings in sides] for _ in range(rounds)]
        return [max(map(statistics.median, zip(*rates, strict=True))) for rates in zip(*taken, strict=True)]

    contexts = [tokens for tokens in CONTEXTS if all(tokens in side.contexts for side in chain(*sides))]
    prefill = medians("prefill", methodcaller("prefill"))
    decode = {tokens: medians(f"decode after {tokens:,} tokens", methodcaller("decode", tokens)) for tokens in contexts}
    names = [folder.resolve().name for folder in folders] + [f"llama.cpp {file.stem}" for file in files]
    sizes = [manifest.program_bytes for manifest in manifests] + [file.stat().st_size for file in files]
    rows = [
        Row(name, size, prefill[i], {tokens: rates[i] for tokens, rates in decode.items()})
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    for row, meter, manifest in zip(rows, ours, manifests, strict=False):
        row.streams_gain = streams_gain(meter, manifest, streams, rounds)
        row.peak_rss_bytes = meter.peak_rss_bytes()
    if text:
        tokens = runtimes[0].tokenize(text)[: windows * WINDOW]
        for row, runtime in zip(rows, runtimes, strict=False):
            row.perplexity = our_perplexity(runtime, text, WINDOW, windows).perplexity
        for row, file in zip(rows[len(folders) :], files, strict=True):
            row.perplexity = their_perplexity(file, threads, tokens)
    for runtime in runtimes:
        runtime.close()
    return Comparison(cpu_name(), threads, rounds, streams, rows)


def streams_gain(meter: Meter, manifest: Manifest, streams: int, rounds: int) -> float | None:
    if manifest.slots == 1:
        return None
    return statistics.median(meter.streams(streams) / meter.streams(1) for _ in range(rounds))


def their_perplexity(path: Path, threads: int, tokens: list[int]) -> float:
    """Over windows, each into an empty cache, every token but a window's first scored."""
    llama = llama_cpp.Llama(
        str(path), n_ctx=WINDOW, n_batch=WINDOW, n_threads=threads, n_threads_batch=threads, logits_all=True,
        verbose=False,
    )  # fmt: skip
    total, count = 0.0, 0
    for start in range(0, len(tokens) - WINDOW + 1, WINDOW):
        window = tokens[start : start + WINDOW]
        llama.n_tokens = 0
        llama.eval(window)
        logits = np.asarray(llama.scores[: WINDOW - 1], np.float64)
        top = logits.max(-1)
        log_sums = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        total += float((log_sums - logits[np.arange(WINDOW - 1), window[1:]]).sum())
        count += WINDOW - 1
    llama.close()
    return math.exp(total / count)


def ratios(result: Comparison) -> Row:
    """Our first model's numbers over those of llama.cpp's first: above 1 in rates, ours is faster."""
    ours = result.rows[0]
    theirs = next(row for row in result.rows if row.name.startswith("llama.cpp "))
    decode = {tokens: rate / theirs.decode[tokens] for tokens, rate in ours.decode.items()}
    return Row(f"{ours.name} / {theirs.name}", 0, ours.prefill / theirs.prefill, decode)


def table(result: Comparison) -> str:
    """Markdown."""
    contexts = list(result.rows[0].decode)
    head = ["", "MB", "perplexity", f"prefill {PREFILLED}", *(f"decode after {tokens:,}" for tokens in contexts)]
    head += ["peak RSS, MB", f"{result.streams} at once / 1"]
    lines = [head, ["---"] * len(head)]
    for row in result.rows:
        rates = [f"{rate:.0f}" if rate >= 20 else f"{rate:.1f}" for rate in (row.prefill, *row.decode.values())]
        lines.append(
            [
                row.name,
                f"{row.bytes / 1e6:.1f}",
                f"{row.perplexity:.2f}" if row.perplexity else "",
                *rates,
                f"{row.peak_rss_bytes / 1e6:,.0f}" if row.peak_rss_bytes else "",
                f"{row.streams_gain:.2f}" if row.streams_gain else "",
            ]
        )
    ratio = ratios(result)
    lines.append([ratio.name, "", "", *(f"{rate:.2f}" for rate in (ratio.prefill, *ratio.decode.values())), "", ""])
    # A column that nobody has anything in would only take room.
    columns = [column for column in zip(*lines, strict=True) if any(column[2:])]
    rows = [f"| {' | '.join(line)} |" for line in zip(*columns, strict=True)]
    return "\n".join([*rows, "", f"{result.machine}, {result.threads} threads, medians of {result.rounds} rounds"])


def plot(result: Comparison, path: Path) -> None:
    """Decode rates against context, a line for each model with its name at the end."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "", "font.family": "sans-serif", "font.size": 11}
    ink, faint = "#333333", "#e4e4e4"
    figure, axes = plt.subplots(figsize=(8, 4), facecolor="#fcfcfc")
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.15)

    axes.set_facecolor("none")
    top = max(max(row.decode.values()) for row in result.rows) * 1.1
    colours = {True: ["#c2410c", "#ea7a3c", "#f4b183"], False: ["#1d4ed8", "#6b8de8", "#a9bdf2"]}
    seen = {True: 0, False: 0}
    label_at = math.inf
    for row in sorted(result.rows, key=lambda row: -list(row.decode.values())[-1]):
        ours = not row.name.startswith("llama.cpp ")
        colour = colours[ours][seen[ours] % 3]
        seen[ours] += 1
        contexts, rates = list(row.decode), list(row.decode.values())
        axes.plot(contexts, rates, color=colour, linewidth=2, marker="o", markersize=5, clip_on=False)
        label_at = min(rates[-1], label_at - top / 14)  # Names do not lie on each other.
        axes.annotate(
            row.name, (contexts[-1], label_at), (10, 0), textcoords="offset points", color=colour, va="center"
        )
    axes.set(ylim=(0, top), xlim=(0, contexts[-1]), xticks=contexts)
    axes.set_xlabel("tokens of context", color=ink)
    axes.set_title(f"tokens decoded per second, {result.threads} threads of {result.machine}", loc="left", color=ink,
                   fontsize=11)  # fmt: skip
    axes.tick_params(colors=ink, length=0, pad=7)
    axes.grid(axis="y", color=faint)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=160)


if __name__ == "__main__":
    main()
