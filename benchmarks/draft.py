"""What a draft model would gain, from the forwards of this machine; and a check of one on a real model.

    python -m benchmarks.draft simulate FOLDER TOKENIZER_FOLDER [--model NAME] [--draft NAME] [--layers 4]
    python -m benchmarks.draft first-layers FILE.gguf FOLDER [--layers 20]

`simulate` makes random checkpoints of both shapes (Falcon3-7B's and 1B's) with some of their layers, converts them into
FOLDER, measures forwards of 1 to 8 rows, and extends them to all layers: a forward takes as long as its weights take to
be read. With these times it computes how many tokens come in a second where each drafted one is accepted with a given
probability. The tokenizer is any, such as the starter's.

`first-layers` makes a draft model of the first layers of a checkpoint, and answers the questions of
`benchmarks.drafting` with it and without.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from falcon_runtime.engine.speculation import MAX_DRAFTED
from falcon_runtime.models.catalog import CATALOG
from falcon_runtime.models.manifest import is_converted, read_manifest
from falcon_runtime.system.machine import cpu_name, default_threads

from .drafting import measure, use_engine_environment
from .random_checkpoint import TOKENIZER, write

ACCEPTANCE = {
    0.53: "CNN/DailyMail, temperature 1",
    0.65: "CNN/DailyMail, greedy",
    0.62: "WMT English to German, temperature 1",
    0.75: "WMT English to German, greedy",
}
"""Of T5-small drafting for T5-XXL: Leviathan et al., 2023, arXiv:2211.17192, table 2. It has a hundredth of the
parameters; models that are closer to each other agree more often."""
CONTEXT = 1024
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=default_threads())
    commands = parser.add_subparsers(required=True, dest="command")
    added = commands.add_parser("simulate")
    added.add_argument("folder", type=Path)
    added.add_argument("tokenizer", type=Path)
    added.add_argument("--model", choices=list(CATALOG), default="falcon3-7b-instruct")
    added.add_argument("--draft", choices=list(CATALOG), default="falcon3-1b-instruct")
    added.add_argument("--layers", type=int, default=4, help="that are measured of each")
    added = commands.add_parser("first-layers")
    added.add_argument("checkpoint", type=Path)
    added.add_argument("folder", type=Path)
    added.add_argument("--layers", type=int, default=20)
    options = parser.parse_args()
    use_engine_environment(__spec__.name)
    if options.command == "simulate":
        both = [forwards(name, options) for name in (options.model, options.draft)]
        print_table(options, *both)
    else:
        folders = converted_layers(options.checkpoint, options.folder, options.layers)
        measure(*folders, rounds=ROUNDS, threads=options.threads)


def forwards(name: str, options: argparse.Namespace) -> list[float]:
    """Seconds that forwards of 1 to 8 rows take of the whole model of that name."""
    folder = random_model(name, options.layers, options)
    manifest = read_manifest(folder)
    few = manifest.parts["attention"] + manifest.parts["mlp"]
    more = few * CATALOG[name].architecture.layers / options.layers
    share = 1 + (more - few) / manifest.bytes_read(0)
    return [seconds * share for seconds in measured(folder, options.threads)]


def random_model(name: str, layers: int, options: argparse.Namespace) -> Path:
    """The folder of a converted model of that shape, but for its layers."""
    folder: Path = options.folder / f"{name}-{layers}-layers"
    checkpoint: Path = options.folder / "checkpoint"
    if not is_converted(folder):
        shutil.rmtree(checkpoint, ignore_errors=True)  # Of a run that was interrupted.
        checkpoint.mkdir(parents=True)
        write(replace(CATALOG[name].architecture, layers=layers), checkpoint)
        for file in TOKENIZER:
            shutil.copyfile(options.tokenizer / file, checkpoint / file)
        converted(checkpoint, folder)
        shutil.rmtree(checkpoint)
    return folder


def converted(checkpoint: Path, folder: Path) -> None:
    from falcon_runtime.convert import convert  # Only here: the exporter's imports take seconds.

    convert(str(checkpoint), folder.parent, "int4", slots=1, context=CONTEXT, output=folder)


def measured(folder: Path, threads: int) -> list[float]:
    """Seconds that forwards of 1 to 8 rows take, the fastest of some."""
    from falcon_runtime.engine.program import Program

    program = Program(folder, read_manifest(folder), threads)

    def seconds(rows: int) -> float:
        began = time.perf_counter()
        program.forward([[0] * rows], [CONTEXT // 4], range(rows))
        return time.perf_counter() - began

    # In turns, so that what else the machine does at times touches all alike.
    rounds = [[seconds(rows) for rows in range(1, MAX_DRAFTED + 2)] for _ in range(ROUNDS + 1)]
    return [min(column) for column in zip(*rounds[1:], strict=True)]


def print_table(options: argparse.Namespace, model: Sequence[float], draft: Sequence[float]) -> None:
    print(f"{cpu_name()}, {options.threads} threads; milliseconds of a forward of 1 to 8 rows")
    for name, times in ((options.model, model), (options.draft, draft)):
        print(f"  {name:22}{' '.join(f'{1000 * s:7.1f}' for s in times)}")
    print(f"\n| accepted | as found with | drafted at a time | tokens/s | without {1 / model[0]:.1f}: times |")
    print("|---" * 5 + "|")
    for acceptance, where in ACCEPTANCE.items():
        rates = [rate(acceptance, count, model, draft) for count in range(len(model))]
        best = max(range(len(rates)), key=rates.__getitem__)
        print(f"| {acceptance} | {where} | {best} | {rates[best]:.1f} | {rates[best] * model[0]:.2f} |")


def rate(acceptance: float, count: int, model: Sequence[float], draft: Sequence[float]) -> float:
    """Tokens per second where `count` are drafted at a time, each of which is accepted with the probability
    `acceptance` if those before it are: equation 1 of Leviathan et al., with the times measured here."""
    return sum(acceptance**i for i in range(count + 1)) / (model[count] + count * draft[0])


def converted_layers(path: Path, folder: Path, layers: int) -> tuple[Path, Path]:
    """The checkpoint converted, and a model of its first layers."""
    from safetensors.torch import save_file

    from falcon_runtime.convert.checkpoint import tensor_shapes
    from falcon_runtime.convert.opening import open_checkpoint

    whole, few, part = folder / "whole", folder / f"{layers}-layers", folder / "checkpoint"
    if not is_converted(whole):
        converted(path, whole)
    if not is_converted(few):
        checkpoint = open_checkpoint(path)
        config = asdict(checkpoint.config) | {"num_hidden_layers": layers, "model_type": "llama"}
        part.mkdir(parents=True, exist_ok=True)
        (part / "config.json").write_text(json.dumps(config))
        checkpoint.save_tokenizer(part)
        names = tensor_shapes(replace(checkpoint.architecture, layers=layers))
        save_file({name: checkpoint.tensor(name).contiguous() for name in names}, part / "model.safetensors")
        converted(part, few)
        shutil.rmtree(part)
    return whole, few


if __name__ == "__main__":
    main()
