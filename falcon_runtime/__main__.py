"""The command line: python -m falcon_runtime COMMAND.

What a person reads goes to the terminal as it comes; `--json` prints for programs.
"""

import argparse
import dataclasses
import io
import json
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, get_args

from .catalog import CATALOG, CatalogEntry
from .chunk import Chunk
from .errors import FalconError, InvalidRequest
from .library import converted_models, default_models_dir, find_model
from .manifest import Backend, RecipeName, read_manifest
from .notes import StatusLine, note, set_notes
from .prompt import Message
from .runtime import FalconRuntime, Generation
from .sampling import SamplingParams
from .sources import Wheel
from .status import Status
from .terminal import defaults_in_use, print_answer, read_messages
from .text import whole


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Neither what comes in nor a file's name needs to be UTF-8.
    options = _parser().parse_args(arguments)
    set_notes(options.quiet, options.verbose)
    try:
        return int(options.run(options) or 0)
    except FalconError as error:
        if options.verbose:
            traceback.print_exc()
        _print_error(error)
        return 1
    except KeyboardInterrupt:
        return 130


def generate(options: argparse.Namespace) -> None:
    prompt = whole(options.prompt)
    params = _params(options)  # Before the model, which may have to be downloaded.
    with _runtime(options) as runtime:
        generation = runtime.generate(prompt, params)
        if options.json:
            print(json.dumps(_collect(generation, params), ensure_ascii=False))
        else:
            print(prompt, end="", flush=True)
            print_answer(generation)


def chat(options: argparse.Namespace) -> None:
    params = _params(options)
    with _runtime(options) as runtime:
        system = runtime.defaults.system if options.system is None else whole(options.system)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        if sys.stdin.isatty():
            note(f"{runtime.title}. Ctrl-C stops an answer, Ctrl-D ends.")
            note(f"Defaults in use: {defaults_in_use(params, options.system, runtime.defaults)}")
        for text in read_messages():
            if not text.strip():
                continue
            messages.append({"role": "user", "content": text})
            try:
                messages.append({"role": "assistant", "content": print_answer(runtime.chat(messages, params))})
            except FalconError as error:
                messages.pop()
                _print_error(error)


def models(options: argparse.Namespace) -> None:
    folder = default_models_dir()
    converted = converted_models(folder)
    for name in [*CATALOG, *(name for name in converted if name not in CATALOG)]:
        entry = CATALOG.get(name)
        lines = [_state(folder / name) if name in converted else "not converted"]
        if entry:
            lines += _facts(entry, name in converted)
        print(f"{name:26}" + f"\n{'':26}".join(lines))


def _state(folder: Path) -> str:
    try:
        manifest = read_manifest(folder)
    except FalconError as error:
        return f"damaged: {error}"
    return f"converted: {manifest.recipe}, {manifest.context:,} tokens, {manifest.program_bytes / 1e6:,.0f} MB"


def _facts(entry: CatalogEntry, converted: bool) -> list[str]:
    """What the catalogue says of a model, for people, by lines."""
    source = entry.source.requirement if isinstance(entry.source, Wheel) else str(entry.source)
    facts = [f"{entry.parameters / 1e9:.2f}B · {source}", f"{entry.licence}: {entry.licence_url}"]
    if converted:
        return facts
    sizes = (entry.download_bytes, entry.program_bytes, entry.memory_bytes)
    download, program, memory = (f"{size / 1e9:.1f} GB" for size in sizes)
    slots = f"{entry.slots} slot{'s' * (entry.slots > 1)}"
    return [f"{download} to download, {program} when converted, {memory} of memory to run {slots}", *facts]


def inspect(options: argparse.Namespace) -> int:
    from .inspection import inspect as look

    inspection = look(find_model(options.model, default_models_dir()).folder)
    if options.json:
        print(json.dumps({"manifest": inspection.manifest.model_dump(mode="json"), "problems": inspection.problems}))
    else:
        print(inspection)
    return 1 if inspection.problems else 0


def convert(options: argparse.Namespace) -> None:
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
            report=_print_json if options.json and not options.quiet else StatusLine(),
            announce=note,
            delete_shards=options.delete_shards,
        )
    except FalconError as error:
        if not options.json:
            raise
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
        raise SystemExit(1) from None
    if options.json:
        print(json.dumps({"model": str(folder)}), flush=True)
    else:
        name = folder.name if folder.parent == default_models_dir() else str(folder)
        note(f"Converted. To talk with it: python -m {__package__} chat --model {shlex.quote(name)}")
        print(folder)


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
        options.model, options.backend, options.threads, options.rounds, on_status=StatusLine(), announce=note
    )
    print(json.dumps(dataclasses.asdict(result)) if options.json else result)


def _print_error(error: FalconError) -> None:
    start = "\r\033[K" if sys.stderr.isatty() else ""  # Over a status that is rewritten.
    print(f"{start}error: {whole(str(error))}", file=sys.stderr)


def _print_json(status: Status) -> None:
    print(json.dumps(dataclasses.asdict(status)), flush=True)


def _runtime(options: argparse.Namespace) -> FalconRuntime:
    runtime = FalconRuntime(options.model, backend=options.backend, threads=options.threads)
    runtime.load(on_status=StatusLine() if sys.stderr.isatty() or runtime.needs_provisioning else None)
    return runtime


def _params(options: argparse.Namespace) -> SamplingParams:
    given = {name: value for name in SamplingParams.model_fields if (value := getattr(options, name)) is not None}
    if "logit_bias" in given:
        given["logit_bias"] = dict(given["logit_bias"])
    return SamplingParams(**given)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m falcon_runtime", description=sys.modules[__package__].__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    notes = _note_flags()

    def command(run: Any, description: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        name = run.__name__
        added = commands.add_parser(name, help=description, description=description, parents=[*parents, notes])
        added.set_defaults(run=run)
        return added

    model, sampling = _model_flags(), _sampling_flags()
    added = command(generate, "Continue a text.", model, sampling)
    added.add_argument("prompt")
    added.add_argument("--json", action="store_true", help="print one JSON object at the end")
    added = command(chat, "Talk with the model; in a pipe, each line is a message.", model, sampling)
    added.add_argument("--system", help="the system prompt; empty: none (default: the model's)")
    command(models, "List the catalogue and what is converted.")
    added = command(inspect, "Say what a converted model is, and whether all of it is there.")
    added.add_argument("model", nargs="?", help="a name, or the folder of a converted model")
    added.add_argument("--json", action="store_true", help="print one JSON object")
    added = command(convert, "Convert a checkpoint into a model folder.")
    added.add_argument(
        "source",
        help="a catalogue name, a .gguf file, a Hugging Face folder, or a model of the hub: ORG/NAME, ORG/NAME:Q4_K_M, "
        "ORG/NAME/FILE.gguf, each with @REVISION if wanted, or the address of its page",
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
    added = command(perplexity, "Measure a model's perplexity on a text.", model)
    added.add_argument("file", type=Path)
    added.add_argument("--window", type=int, default=256, help="tokens that are scored together")
    added.add_argument("--max-windows", type=int, help="stop after so many windows")
    added.add_argument("--json", action="store_true", help="print one JSON object")
    added = command(bench, "Measure a model's speed and memory on this machine.", model)
    added.add_argument("--rounds", type=int, default=3, help="the median of so many is told")
    added.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _note_flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(add_help=False)
    either = flags.add_mutually_exclusive_group()
    either.add_argument("--quiet", action="store_true", help="print results and errors, and nothing else")
    either.add_argument("--verbose", action="store_true", help="print what libraries log too, and where errors arise")
    return flags


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
        # One that is empty has no name.
        default = f" (default: the model's, else {field.default})" if field.default not in (None, (), {}) else ""
        description = f"{field.description}{default}".replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            flags.add_argument(flag, action=argparse.BooleanOptionalAction, help=description)
        elif name == "stop":
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
