"""The commands, each a function of the parsed arguments. What a person reads goes to the terminal as it comes; `--json`
prints for programs."""

import argparse
import dataclasses
import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

from ..chunk import Chunk
from ..errors import FalconError, InvalidRequest
from ..generation import Generation
from ..models.catalog import CATALOG, CatalogEntry
from ..models.drafts import NONE
from ..models.library import converted_models, default_models_dir, find_model, passed_over
from ..models.manifest import read_manifest
from ..models.sources import Wheel
from ..runtime import FalconRuntime
from ..sampling import SamplingParams
from ..status import Status
from ..system.unicode import whole
from ..text.turns import Message
from .arguments import sampling_params
from .notes import StatusLine, note, print_error
from .terminal import defaults_in_use, print_answer, read_messages


def generate(options: argparse.Namespace) -> None:
    prompt = whole(options.prompt)
    params = sampling_params(options)  # Before the model, which may have to be downloaded.
    with _runtime(options) as runtime:
        generation = runtime.generate(prompt, params)
        if options.json:
            print(json.dumps(_collect(generation, params), ensure_ascii=False))
        else:
            print(prompt, end="", flush=True)
            print_answer(generation)


def chat(options: argparse.Namespace) -> None:
    params = sampling_params(options)
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
                print_error(error)


def serve(options: argparse.Namespace) -> None:
    from ..server.serving import serve as run  # Only here: the server's imports take a second.
    from ..server.settings import read

    run(read(vars(options)), StatusLine(), note)


def models(options: argparse.Namespace) -> None:
    folder = default_models_dir()
    converted = converted_models(folder)
    for name in [*CATALOG, *(name for name in converted if name not in CATALOG)]:
        entry = CATALOG.get(name)
        lines = [_state(folder / name) if name in converted else "not converted"]
        if entry:
            lines += _facts(entry, name in converted)
        print(whole(f"{name:26}" + f"\n{'':26}".join(lines)))
    for name, reason in passed_over(folder).items():
        print(whole(f"{name:26}skipped: {reason}"))


def _state(folder: Path) -> str:
    try:
        manifest = read_manifest(folder)
    except FalconError as error:
        return f"damaged: {' '.join(str(error).split())}"
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

    inspection = look(find_model(options.model, default_models_dir()), default_models_dir())
    if options.json:
        manifest = inspection.manifest.model_dump(mode="json")
        print(json.dumps({"manifest": manifest, "draft": inspection.draft, "problems": inspection.problems}))
    else:
        print(inspection)
    return 1 if inspection.problems else 0


def convert(options: argparse.Namespace) -> None:
    from ..convert import convert as run  # Only here: the exporter's imports take seconds.

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
            cache=options.cache,
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
        note(f"Converted. To talk with it: python -m falcon_runtime chat --model {shlex.quote(name)}")
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
        options.model,
        options.backend,
        options.threads,
        options.rounds,
        on_status=StatusLine(),
        announce=note,
        draft=options.draft,
    )
    print(json.dumps(dataclasses.asdict(result)) if options.json else result)


def _print_json(status: Status) -> None:
    print(json.dumps(dataclasses.asdict(status)), flush=True)


def _runtime(options: argparse.Namespace) -> FalconRuntime:
    draft = getattr(options, "draft", NONE)  # Where nothing is generated, nothing can be drafted.
    runtime = FalconRuntime(options.model, backend=options.backend, threads=options.threads, draft=draft)
    runtime.load(on_status=StatusLine() if sys.stderr.isatty() or runtime.needs_provisioning else None)
    if runtime.draft_problem:
        note(runtime.draft_problem)
    return runtime


def _collect(generation: Generation, params: SamplingParams) -> dict[str, Any]:
    chunks: list[Chunk] = list(generation)
    logprobs = [dataclasses.asdict(token) for chunk in chunks for token in chunk.logprobs]
    of_prompt = [dataclasses.asdict(token) for chunk in chunks for token in chunk.prompt_logprobs]
    return {
        "text": "".join(chunk.text for chunk in chunks),
        "token_ids": [token for chunk in chunks for token in chunk.token_ids],
        "finish_reason": chunks[-1].finish_reason,
        **({"logprobs": logprobs} if params.logprobs is not None else {}),
        **({"prompt_logprobs": of_prompt} if params.prompt_logprobs is not None else {}),
        "stats": dataclasses.asdict(chunks[-1].stats),
    }
