"""The commands, each a function of the parsed arguments, which returns the exit code where it is not 0."""

import argparse
import dataclasses
import shlex
import sys
from functools import partial
from importlib.util import find_spec
from typing import Any

from ..errors import FalconError, UsageError
from ..models.drafts import NONE
from ..models.library import default_models_dir, find_model
from ..models.reading import is_foreign
from ..runtime import FalconRuntime
from ..server.settings import ModelSettings, ReplicaSettings
from ..status import Status
from ..system.imports import import_less
from ..system.unicode import whole
from ..text.turns import Message
from .answers import Interrupts, defaults_in_use, print_answer, print_object
from .arguments import ChatSettings, sampling_params
from .notes import NOTES
from .output import write, write_json
from .questions import read_messages, read_prompt, read_text


def generate(options: argparse.Namespace) -> None:
    # Before the model, which may have to be downloaded.
    params, prompt = sampling_params(options), read_prompt(options.prompt)
    with _runtime(options) as runtime, Interrupts() as interrupts:
        chunks = interrupts.chunks(partial(runtime.generate, prompt, params))
        if options.json:
            print_object(chunks, params)
        else:
            print_answer(chunks, prompt)
        if interrupts.interrupted:
            raise KeyboardInterrupt


def chat(options: argparse.Namespace) -> int:
    params, settings = sampling_params(options), ChatSettings.read(vars(options))
    with _runtime(options) as runtime:
        system = runtime.defaults.system if options.system is None else whole(options.system)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        typed, failed = sys.stdin.isatty(), False
        if typed:
            NOTES.note(f"{runtime.title}. Ctrl-C stops an answer, Ctrl-D quits.")
            NOTES.note(f"Defaults in use: {defaults_in_use(params, options.system, runtime.defaults)}")
        # Who hits Ctrl-C twice has still meant the answer.
        with Interrupts(lambda *_: None) if typed else Interrupts() as interrupts:
            for text in read_messages(settings.history):
                if not text.strip():
                    continue
                asked: list[Message] = [*messages, {"role": "user", "content": text}]
                chunks = interrupts.chunks(partial(runtime.chat, asked, params))
                try:
                    answer = print_object(chunks, params) if options.json else print_answer(chunks)
                except FalconError as error:
                    NOTES.error(error)
                    failed = True
                    continue
                if interrupts.interrupted and not typed:
                    raise KeyboardInterrupt
                if answer or not interrupts.interrupted:
                    messages = [*asked, {"role": "assistant", "content": answer}]
    return int(failed and not typed)


def batch(options: argparse.Namespace) -> int:
    from ..server.batch import run_batch  # Only here, as in `serve`: the server's imports take a second.

    settings = ModelSettings.read(vars(options))
    try:
        outcome = run_batch(settings, options.input, options.output, NOTES.status)
    except KeyboardInterrupt:
        NOTES.note("Interrupted. The answers so far are kept; run the same command again to continue.")
        raise
    _print(options, outcome.facts(), str(outcome))
    return int(outcome.failed > 0)


def serve(options: argparse.Namespace) -> None:
    def tell(url: str) -> None:
        if options.json:
            write_json({"url": f"{url}/v1"})
        NOTES.note(f"The API is at {url}/v1, its description at {url}/docs.")

    def show(status: Status) -> None:
        if status.state == "failed":  # The server goes on, and tries again.
            NOTES.note(str(status))
        NOTES.status(status)

    settings = ReplicaSettings.read(vars(options))
    if not settings.replicas:
        from ..server.serving import serve as run

        run(settings, show, tell)
    elif find_spec("ray"):
        from ..serve_ray import serve_replicas

        serve_replicas(settings, show, tell)
    else:
        raise UsageError("--replicas needs Ray Serve. Install it: pip install 'falcon-runtime[ray]'.")


def models(options: argparse.Namespace) -> None:
    from .listing import listed

    there = listed(default_models_dir())
    _print(options, [model.facts() for model in there], "\n".join(map(str, there)))


def inspect(options: argparse.Namespace) -> int:
    from .inspection import inspect as look
    from .stock_inspection import inspect_stock

    model = find_model(options.model, default_models_dir())
    if is_foreign(model.folder):
        stock = inspect_stock(model.folder)
        _print(options, stock.facts(), str(stock))
        return 1 if stock.problems else 0
    inspection = look(model, default_models_dir())
    manifest = inspection.manifest.model_dump(mode="json")
    facts = {"manifest": manifest, "draft": inspection.draft, "problems": inspection.problems}
    _print(options, facts, str(inspection))
    return 1 if inspection.problems else 0


def convert(options: argparse.Namespace) -> None:
    import_less()
    from ..convert import convert as run  # Only here: the exporter's imports take seconds.

    folder = run(
        options.source,
        default_models_dir(),
        recipe=options.recipe,
        slots=options.slots,
        context=options.context,
        cache=options.cache,
        output=options.output,
        report=NOTES.status,
        announce=NOTES.note,
        delete_shards=options.delete_shards,
        target=options.target,
        chip=options.chip,
    )
    name = folder.name if folder.parent == default_models_dir() else str(folder)
    if options.target == "server":
        NOTES.note(f"Converted. To talk with it: python -m falcon_runtime chat --model {shlex.quote(name)}")
    elif options.target == "qnn":
        NOTES.note(f"Compiled for {options.chip}, and not run. What it takes to run it: {folder / 'README.md'}")
    else:
        NOTES.note(f"Converted, and tried in ExecuTorch's own runner. How an app loads it: {folder / 'README.md'}")
    _print(options, {"model": str(folder)}, str(folder))


def perplexity(options: argparse.Namespace) -> None:
    from .perplexity import measure

    text = read_text(options.file)
    with _runtime(options) as runtime:
        result = measure(runtime, text, options.window, options.max_windows, NOTES.status)
    _print(options, dataclasses.asdict(result), str(result))


def bench(options: argparse.Namespace) -> None:
    from .bench import measure

    settings = ModelSettings.read(vars(options))
    result = measure(
        settings.model,
        settings.backend,
        settings.threads,
        options.rounds,
        on_status=NOTES.status,
        announce=NOTES.note,
        draft=settings.draft,
    )
    _print(options, dataclasses.asdict(result), str(result))


def _print(options: argparse.Namespace, facts: Any, text: str) -> None:
    """A result, where it is for a program or for a person."""
    NOTES.clear()
    if options.json:
        write_json(facts)
    else:
        write(text)


def _runtime(options: argparse.Namespace) -> FalconRuntime:
    settings = ModelSettings.read(vars(options))
    draft = settings.draft if "draft" in options else NONE  # Where nothing is generated, nothing can be drafted.
    runtime = FalconRuntime(
        settings.model,
        backend=settings.backend,
        threads=settings.threads,
        draft=draft,
        chat_template=settings.chat_template,
    )
    runtime.load(on_status=NOTES.status if sys.stderr.isatty() or runtime.needs_provisioning else None)
    if runtime.draft_problem:
        NOTES.note(runtime.draft_problem)
    return runtime
