"""The arguments of every command, and what they mean."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from .. import __doc__ as DESCRIPTION
from ..models.architecture import SLOTS
from ..models.manifest import Backend, RecipeName
from ..sampling import SamplingParams
from ..server.settings import ServerSettings

Command = Callable[..., argparse.ArgumentParser]
"""Adds a command: its name, its description, and parsers whose flags it has too."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The flags, and the name of the `command`."""
    return build_parser().parse_args(arguments)


def sampling_params(options: argparse.Namespace) -> SamplingParams:
    given = {name: value for name in SamplingParams.model_fields if (value := getattr(options, name)) is not None}
    if "logit_bias" in given:
        given["logit_bias"] = dict(given["logit_bias"])
    return SamplingParams(**given)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="falcon", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    notes = _note_flags()

    def command(name: str, description: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=description, description=description, parents=[*parents, notes])

    _add_answering(command)
    _add_serving(command)
    _add_models(command)
    _add_measuring(command)
    return parser


def _add_answering(command: Command) -> None:
    model, sampling = _model_flags(drafts=True), _sampling_flags()
    added = command("generate", "Continue a text.", model, sampling)
    added.add_argument("prompt")
    added.add_argument("--json", action="store_true", help="print one JSON object at the end")
    added = command("chat", "Talk with the model; in a pipe, each line is a message.", model, sampling)
    added.add_argument("--system", help="the system prompt; empty: none (default: the model's)")


def _add_serving(command: Command) -> None:
    added = command("serve", "Answer programs over HTTP, in the form of OpenAI's API.")
    for name, field in ServerSettings.model_fields.items():
        flag, default = f"--{name.replace('_', '-')}", field.default
        known = f" (default: {default})" if default is not None else ""
        description = f"{field.description}; variable FALCON_{name.upper()}{known}".replace("%", "%%")
        if isinstance(default, bool):
            added.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=description)
        else:
            added.add_argument(flag, help=description)


def _add_models(command: Command) -> None:
    command("models", "List the catalogue and what is converted.")
    added = command("inspect", "Say what a converted model is, and whether all of it is there.")
    added.add_argument("model", nargs="?", help="a name, or the folder of a converted model")
    added.add_argument("--json", action="store_true", help="print one JSON object")
    added = command("convert", "Convert a checkpoint into a model folder.")
    added.add_argument(
        "source",
        help="a catalogue name, a .gguf file, a Hugging Face folder, or a model of the hub: ORG/NAME, ORG/NAME:Q4_K_M, "
        "ORG/NAME/FILE.gguf, each with @REVISION if wanted, or the address of its page",
    )
    added.add_argument("--recipe", choices=get_args(RecipeName), help="how the weights are stored")
    added.add_argument(
        "--slots",
        type=int,
        help=f"sequences that the model keeps at once (default: up to {SLOTS}, as this machine's memory allows)",
    )
    added.add_argument("--context", type=int, help="tokens of prompt and answer together")
    added.add_argument(
        "--cache",
        type=int,
        choices=(16, 8),
        help="bits of the numbers in the KV cache: floats, or integers in half the memory (default: 16)",
    )
    added.add_argument("--output", type=Path, help="the model's folder")
    added.add_argument(
        "--delete-shards", action="store_true", help="remove what a hub sends, file by file, as it is converted"
    )
    added.add_argument("--json", action="store_true", help="print progress and result as JSON lines")


def _add_measuring(command: Command) -> None:
    model = _model_flags()
    added = command("perplexity", "Measure a model's perplexity on a text.", model)
    added.add_argument("file", type=Path)
    added.add_argument("--window", type=int, default=256, help="tokens that are scored together")
    added.add_argument("--max-windows", type=int, help="stop after so many windows")
    added.add_argument("--json", action="store_true", help="print one JSON object")
    added = command("bench", "Measure a model's speed and memory on this machine.", _model_flags(drafts=True))
    added.add_argument("--rounds", type=int, default=3, help="how often to measure; the median is reported")
    added.add_argument("--json", action="store_true", help="print one JSON object")


def _note_flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(add_help=False)
    either = flags.add_mutually_exclusive_group()
    either.add_argument("--quiet", action="store_true", help="print results and errors, and nothing else")
    either.add_argument("--verbose", action="store_true", help="also print what libraries log, and tracebacks")
    return flags


def _model_flags(drafts: bool = False) -> argparse.ArgumentParser:
    """Which model to run, and how; where tokens are generated, also with which draft model."""
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("--model", help="a catalogue name, or the folder of a converted model")
    flags.add_argument("--backend", choices=get_args(Backend), default="xnnpack")
    flags.add_argument("--threads", type=int, help="default: the CPUs that may be used")
    if drafts:
        flags.add_argument(
            "--draft",
            help="a converted model that drafts for it, none, or auto (the default): the one that the catalogue has "
            "for it, if that is converted and fits in memory",
        )
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
        elif name == "constraint":
            flags.add_argument(flag, type=_json, metavar="JSON", help=f"{description} {EXAMPLE}")
        else:
            # `int | None` is an optional int.
            kind: Any = next(a for a in get_args(field.annotation) or [field.annotation] if a is not type(None))
            flags.add_argument(flag, type=kind, metavar=kind.__name__.upper(), help=description)
    return flags


EXAMPLE = """Such as '{"choice": ["yes", "no"]}'."""


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"it is not JSON: {error}") from None


def _bias(text: str) -> tuple[str, str]:
    """The two sides of ID=BIAS; whether they are numbers, `SamplingParams` says."""
    token, equals, bias = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form ID=BIAS")
    return token, bias
