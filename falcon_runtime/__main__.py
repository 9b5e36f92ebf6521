"""The command line: python -m falcon_runtime COMMAND.

What a person reads goes to the terminal as it comes; `--json` prints for programs.
"""

import argparse
import dataclasses
import json
import logging
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any, get_args

from .catalog import CATALOG
from .chunk import Chunk, Stats
from .errors import FalconError, InvalidRequest, UnknownModel
from .library import converted_models, default_models_dir, find_model
from .manifest import Backend, RecipeName, read_manifest
from .prompt import Message
from .runtime import FalconRuntime, Generation
from .sampling import SamplingParams
from .sources import Wheel
from .status import Status


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except FalconError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def generate(options: argparse.Namespace) -> None:
    params = _params(options)  # Before the model, which may have to be downloaded.
    with _runtime(options) as runtime:
        generation = runtime.generate(options.prompt, params)
        if options.json:
            print(json.dumps(_collect(generation, params), ensure_ascii=False))
        else:
            print(options.prompt, end="", flush=True)
            _stream(generation)


def chat(options: argparse.Namespace) -> None:
    messages: list[Message] = [{"role": "system", "content": options.system}] if options.system else []
    params = _params(options)
    with _runtime(options) as runtime:
        if sys.stdin.isatty():
            print(f"{runtime.title}. Ctrl-C stops an answer, Ctrl-D ends.", file=sys.stderr)
        while (line := _read_line()) is not None:
            if not line.strip():
                continue
            messages.append({"role": "user", "content": line})
            try:
                messages.append({"role": "assistant", "content": _stream(runtime.chat(messages, params))})
            except FalconError as error:
                messages.pop()
                print(f"error: {error}", file=sys.stderr)


def models(options: argparse.Namespace) -> None:
    folder = default_models_dir()
    converted = converted_models(folder)
    for name in [*CATALOG, *(name for name in converted if name not in CATALOG)]:
        entry = CATALOG.get(name)
        state = "not converted"
        if name in converted:
            try:
                manifest = read_manifest(folder / name)
                state = (
                    f"converted: {manifest.recipe}, {manifest.context:,} tokens, {manifest.program_bytes / 1e6:,.0f} MB"
                )
            except FalconError as error:
                state = f"damaged: {error}"
        lines = [state]
        if entry:
            source = entry.source.requirement if isinstance(entry.source, Wheel) else str(entry.source)
            if name not in converted:
                download, program, memory = (
                    f"{size / 1e9:.1f} GB" for size in (entry.download_bytes, entry.program_bytes, entry.memory_bytes)
                )
                slots = f"{entry.slots} slot{'s' * (entry.slots > 1)}"
                lines.append(f"{download} to download, {program} when converted, {memory} of memory to run {slots}")
            lines += [f"{entry.parameters / 1e9:.2f}B · {source}", f"{entry.licence}: {entry.licence_url}"]
        print(f"{name:26}" + f"\n{'':26}".join(lines))


def inspect(options: argparse.Namespace) -> int:
    from .inspection import inspect as look

    inspection = look(find_model(options.model, default_models_dir()).folder)
    if options.json:
        print(json.dumps({"manifest": inspection.manifest.model_dump(mode="json"), "problems": inspection.problems}))
    else:
        print(inspection)
    return 1 if inspection.problems else 0


def convert(options: argparse.Namespace) -> None:
    # What the exporter's libraries say of themselves, at import and later, is nothing for the owner of a demo.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    from .convert import convert as run  # Only here: the exporter's imports take seconds.

    if options.json:
        # Whoever reads this has gone when the pipe is closed; a conversion for nobody should end.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        folder = run(
            options.source,
            default_models_dir(),
            recipe=options.recipe,
            slots=options.slots,
            context=options.context,
            output=options.output,
            report=_print_json if options.json else StatusLine(),
            announce=_announce,
            delete_shards=options.delete_shards,
        )
    except FalconError as error:
        if not options.json:
            raise
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        raise SystemExit(1) from None
    print(json.dumps({"model": str(folder)}) if options.json else f"\nConverted: {folder}", flush=True)


def graphs(options: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    from .convert.prepare_graphs import prepare_graphs

    if unknown := set(options.names) - set(CATALOG):
        raise UnknownModel(f"The catalogue has no {', '.join(sorted(unknown))}; it has {', '.join(CATALOG)}.")
    for path, seconds in prepare_graphs(options.names):
        print(f"{path.name}: {path.stat().st_size:,} bytes, {seconds:.0f} s", flush=True)


def perplexity(options: argparse.Namespace) -> None:
    from .perplexity import measure

    try:
        text = options.file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{options.file} cannot be read as text: {error}.") from error
    with _runtime(options) as runtime:
        result = measure(runtime, text, options.window, options.max_windows)
    if options.json:
        print(json.dumps(dataclasses.asdict(result)))
    else:
        print(f"perplexity {result.perplexity:.4f} of {result.tokens:,} tokens in {result.seconds:.1f} s")


def bench(options: argparse.Namespace) -> None:
    from .bench import measure

    if options.rounds < 1:
        raise InvalidRequest(f"At least one round must be measured, not {options.rounds}.")
    result = measure(
        options.model, options.backend, options.threads, options.rounds, on_status=StatusLine(), announce=_announce
    )
    print(json.dumps(dataclasses.asdict(result)) if options.json else result)


class StatusLine:
    """Shows a status on the terminal: one line that is rewritten, or on no terminal a line for each new state and every
    ten seconds."""

    def __init__(self) -> None:
        self._last: tuple[str, float] = ("", 0)

    def __call__(self, status: Status) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{status}", end="" if status.state != "ready" else "\n", file=sys.stderr, flush=True)
            return
        state, printed = self._last
        if status.state != state or time.monotonic() - printed > 10:
            print(status, file=sys.stderr, flush=True)
            self._last = status.state, time.monotonic()


def _announce(text: str) -> None:
    print(("\r\033[K" if sys.stderr.isatty() else "") + text, file=sys.stderr, flush=True)


def _print_json(status: Status) -> None:
    print(json.dumps(dataclasses.asdict(status)), flush=True)


def _runtime(options: argparse.Namespace) -> FalconRuntime:
    runtime = FalconRuntime(options.model, backend=options.backend, threads=options.threads)
    runtime.load(on_status=StatusLine() if sys.stderr.isatty() or runtime.needs_obtaining else None)
    return runtime


def _params(options: argparse.Namespace) -> SamplingParams:
    given = {name: value for name in SamplingParams.model_fields if (value := getattr(options, name)) is not None}
    if "logit_bias" in given:
        given["logit_bias"] = dict(given["logit_bias"])
    return SamplingParams(**given)


def _stream(generation: Generation) -> str:
    """Prints the answer as it comes, then its statistics; returns it. Ctrl-C ends the answer and not the program."""
    text, stats = "", Stats()
    try:
        for chunk in generation:
            print(chunk.text, end="", flush=True)
            text, stats = text + chunk.text, chunk.stats
    except KeyboardInterrupt:
        generation.close()
    print(flush=True)
    print(f"[{_summary(stats)}]", file=sys.stderr)
    return text


def _summary(stats: Stats) -> str:
    reading, writing = stats.prefill_tokens_per_second or 0, stats.decode_tokens_per_second or 0
    guesses = f", {stats.accepted_tokens} of {stats.drafted_tokens} guesses right" if stats.drafted_tokens else ""
    dropped = f", oldest messages left out: {stats.dropped_messages}" if stats.dropped_messages else ""
    return (
        f"read {stats.prompt_tokens} tokens ({stats.cached_tokens} cached) at {reading:.0f}/s, "
        f"wrote {stats.generated_tokens} at {writing:.0f}/s{guesses}{dropped}"
    )


def _collect(generation: Generation, params: SamplingParams) -> dict[str, Any]:
    chunks: list[Chunk] = list(generation)
    logprobs = [dataclasses.asdict(token) for chunk in chunks for token in chunk.logprobs]
    return {
        "text": "".join(chunk.text for chunk in chunks),
        "token_ids": [token for chunk in chunks for token in chunk.token_ids],
        "finish_reason": chunks[-1].finish_reason,
        **({"logprobs": logprobs} if params.logprobs is not None else {}),
        "stats": dataclasses.asdict(chunks[-1].stats),
    }


def _read_line() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m falcon_runtime", description=sys.modules[__package__].__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Any, description: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__, help=description, description=description, parents=parents)
        added.set_defaults(run=run)
        return added

    model, sampling = _model_flags(), _sampling_flags()
    added = command(generate, "Continue a text.", model, sampling)
    added.add_argument("prompt")
    added.add_argument("--json", action="store_true", help="print one JSON object at the end")
    added = command(chat, "Talk with the model; one line of input is one message.", model, sampling)
    added.add_argument("--system", help="the system prompt")
    command(models, "List the catalogue and what is converted.")
    added = command(inspect, "Say what a converted model is, and whether all of it is there.")
    added.add_argument("model", nargs="?", help="a name, or the folder of a converted model")
    added.add_argument("--json", action="store_true", help="print one JSON object")
    added = command(convert, "Convert a checkpoint into a model folder.")
    added.add_argument(
        "source",
        help="a catalogue name, a .gguf file, a Hugging Face folder, or ORG/NAME[/FILE.gguf][@REVISION] of the hub",
    )
    added.add_argument("--recipe", choices=get_args(RecipeName))
    added.add_argument(
        "--slots",
        type=int,
        help="sequences that the model keeps at once (default: 8, 4 or 1, as the model's size and this machine's "
        "memory allow)",
    )
    added.add_argument("--context", type=int, help="tokens of prompt and answer together")
    added.add_argument("--output", type=Path, help="the model's folder")
    added.add_argument(
        "--delete-shards", action="store_true", help="remove what a hub sends, file by file, as it is converted"
    )
    added.add_argument("--json", action="store_true", help="print progress and result as JSON lines")
    added = command(graphs, "Make the graph templates of catalogue models, for developers.")
    added.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    added = command(perplexity, "Measure a model's perplexity on a text.", model)
    added.add_argument("file", type=Path)
    added.add_argument("--window", type=int, default=256, help="tokens that are scored together")
    added.add_argument("--max-windows", type=int, help="stop after so many windows")
    added.add_argument("--json", action="store_true", help="print one JSON object")
    added = command(bench, "Measure a model's speed and memory on this machine.", model)
    added.add_argument("--rounds", type=int, default=3, help="the median of so many is told")
    added.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _model_flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--model", help="a catalogue name, or the folder of a converted model")
    flags.add_argument("--backend", choices=get_args(Backend), default="xnnpack")
    flags.add_argument("--threads", type=int, help="default: the CPUs that may be used")
    return flags


def _sampling_flags() -> argparse.ArgumentParser:
    """One flag for each sampling parameter, described by the parameter itself."""
    flags = argparse.ArgumentParser(add_help=False)
    for name, field in SamplingParams.model_fields.items():
        description = f"{field.description} (default: {field.default})".replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        if name == "stop":
            flags.add_argument(flag, action="append", metavar="TEXT", help=description)
        elif name == "logit_bias":
            flags.add_argument(flag, action="append", type=_bias, metavar="ID=BIAS", help=description)
        else:
            # `int | None` is an optional int.
            kind: Any = next(a for a in get_args(field.annotation) or [field.annotation] if a is not type(None))
            flags.add_argument(flag, type=kind, metavar=kind.__name__.upper(), help=description)
    return flags


def _bias(text: str) -> tuple[str, str]:
    """The two sides of ID=BIAS; whether they are numbers, `SamplingParams` says."""
    token, equals, bias = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ID=BIAS")
    return token, bias


if __name__ == "__main__":
    sys.exit(main())
