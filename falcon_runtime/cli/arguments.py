"""The arguments of every command, and what they mean. Each is described in one place: sampling by `SamplingParams`, the
model and the server by their settings, what is a command's own here."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import Field
from pydantic.fields import FieldInfo

from .. import __doc__ as DESCRIPTION
from ..errors import InvalidRequest, UsageError
from ..models.architecture import SLOTS
from ..models.manifest import RecipeName, Target
from ..sampling import SamplingParams
from ..server.settings import ModelSettings, ReplicaSettings

Command = Callable[..., "Parser"]
"""Adds a command: its name, its description, and parsers whose flags it has too."""
EXIT_CODES = {
    0: "all is well",
    1: "what was asked for could not be done, or not all of it; a sentence says why",
    2: "the arguments, or a variable, are wrong",
    130: "interrupted by Ctrl-C",
    141: "nobody reads the results any more, as with `| head -1`",
}


class ChatSettings(ModelSettings):
    history: bool = Field(True, description="remember what is typed, for the arrow keys, from one run to the next")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Errors: UsageError, always."""
        raise UsageError(f"{message[:1].upper()}{message[1:].rstrip('.')}. `{self.prog} --help` says more.")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The flags, and the name of the `command`. Errors: UsageError."""
    return build_parser().parse_args(arguments)


def sampling_params(options: argparse.Namespace) -> SamplingParams:
    """Errors: UsageError."""
    given = {name: value for name in SamplingParams.model_fields if (value := getattr(options, name)) is not None}
    if "logit_bias" in given:
        given["logit_bias"] = dict(given["logit_bias"])
    try:
        return SamplingParams(**given)
    except InvalidRequest as error:
        raise UsageError(str(error)) from None


def build_parser() -> Parser:
    codes = "; ".join(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items())
    parser = Parser(prog="falcon", description=DESCRIPTION, epilog=f"Exit codes: {codes}.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    shared = _shared_flags()

    def command(name: str, description: str, *parents: Parser) -> Parser:
        return commands.add_parser(name, help=description, description=description, parents=[*parents, shared])

    _add_answering(command)
    _add_serving(command)
    _add_models(command)
    _add_measuring(command)
    return parser


def _add_answering(command: Command) -> None:
    model, sampling = _settings_flags(ModelSettings), _sampling_flags()
    added = command("generate", "Continue a text.", model, sampling)
    added.add_argument(
        "prompt",
        nargs="?",
        help="the text; without one, or with -, it is read from stdin, except for its final line break",
    )
    added = command(
        "chat", "Talk with the model; in a pipe, each line is a message.", _settings_flags(ChatSettings), sampling
    )
    added.add_argument("--system", help="the system prompt; empty: none (default: the model's)")
    added = command("batch", "Answer the requests of a file, in OpenAI's batch format.", model)
    added.add_argument("input", type=Path, help="the file of requests, one JSON object a line")
    added.add_argument(
        "output", type=Path, help="the file for their answers; answers already there are kept, and not asked for again"
    )


def _add_serving(command: Command) -> None:
    command("serve", "Answer programs over HTTP, in the form of OpenAI's API.", _settings_flags(ReplicaSettings))


def _add_models(command: Command) -> None:
    command("models", "List the catalogue and the models that are here.")
    added = command("inspect", "Say what a model is, and whether all of it is there, or can run.")
    added.add_argument("model", nargs="?", help=ModelSettings.model_fields["model"].description)
    added = command("convert", "Convert a checkpoint into a model folder.")
    added.add_argument(
        "source",
        help="a catalogue name, a .gguf file, a Hugging Face folder, or a model of the hub: ORG/NAME, ORG/NAME:Q4_K_M, "
        "ORG/NAME/FILE.gguf, each with @REVISION if wanted, or the address of its page",
    )
    added.add_argument(
        "--for",
        dest="target",
        choices=get_args(Target),
        default="server",
        help="what will run it: this project (server), ExecuTorch's own runners on phones and elsewhere (stock), "
        "OpenVINO, or a Qualcomm NPU (qnn) (default: server)",
    )
    added.add_argument("--soc", dest="chip", help="the chip, for qnn: SM8650 is the Snapdragon 8 Gen 3")
    added.add_argument("--recipe", choices=get_args(RecipeName), help="how the weights are stored")
    added.add_argument(
        "--slots",
        type=_at_least(1),
        help=f"sequences that the model keeps at once (default: up to {SLOTS}, as this machine's memory allows)",
    )
    added.add_argument("--context", type=_at_least(1), help="tokens of prompt and answer together")
    added.add_argument(
        "--cache",
        type=int,
        choices=(16, 8),
        help="bits of the numbers in the KV cache: floats, or integers in half the memory (default: 16)",
    )
    added.add_argument("--output", type=Path, help="the model's folder")
    added.add_argument(
        "--delete-shards", action="store_true", help="delete each file of weights from a hub as soon as it is converted"
    )


def _add_measuring(command: Command) -> None:
    scoring = _settings_flags(ModelSettings, leave_out=["draft", "chat_template"])  # Of what only answers need.
    added = command("perplexity", "Measure a model's perplexity on a text.", scoring)
    added.add_argument("file", help="the file with the text; - for stdin")
    added.add_argument("--window", type=_at_least(2), default=256, help="tokens that are scored together")
    added.add_argument("--max-windows", type=_at_least(1), help="stop after this many windows")
    bench = _settings_flags(ModelSettings, leave_out=["chat_template"])
    added = command("bench", "Measure a model's speed and memory on this machine.", bench)
    added.add_argument("--rounds", type=_at_least(1), default=3, help="how often to measure; the median is reported")


def _shared_flags() -> Parser:
    flags = Parser(add_help=False)
    flags.add_argument(
        "--json",
        action="store_true",
        help="print results for programs, as JSON on stdout; on stderr, too, each line is then a JSON object",
    )
    either = flags.add_mutually_exclusive_group()
    either.add_argument("--quiet", action="store_true", help="print results and errors, and nothing else")
    either.add_argument("--verbose", action="store_true", help="also print what libraries log, and tracebacks")
    return flags


def _settings_flags(kind: type[ModelSettings], leave_out: Iterable[str] = ()) -> Parser:
    """One flag for each setting, described by the setting itself. What a value must be, the settings check."""
    flags = Parser(add_help=False)
    for name, field in kind.model_fields.items():
        if name in leave_out:
            continue
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else None
        _add_flag(flags, name, field, f"; variable FALCON_{name.upper()}", "", choices=choices)
    return flags


def _sampling_flags() -> Parser:
    """One flag for each sampling parameter, described by the parameter itself."""
    flags = Parser(add_help=False)
    for name, field in SamplingParams.model_fields.items():
        # `int | None` is an optional int.
        kind: Any = next(a for a in get_args(field.annotation) or [field.annotation] if a is not type(None))
        special: dict[str, dict[str, Any]] = {
            "stop": {"action": "append", "metavar": "TEXT"},
            "logit_bias": {"action": "append", "type": _bias, "metavar": "ID=BIAS"},
            "constraint": {"type": _json, "metavar": "JSON"},
        }
        options = special.get(name, {"type": kind, "metavar": kind.__name__.upper()})
        _add_flag(flags, name, field, f" {EXAMPLE}" * (name == "constraint"), "the model's, else ", **options)
    return flags


def _add_flag(flags: Parser, name: str, field: FieldInfo, more: str, default_of: str, **options: Any) -> None:
    known = field.default not in (None, (), {})  # One that is empty has no name.
    default = f" (default: {default_of}{field.default})" if known else ""
    if field.annotation is bool:
        options = {"action": argparse.BooleanOptionalAction, "default": None}
    description = f"{field.description}{more}{default}".replace("%", "%%")
    flags.add_argument(f"--{name.replace('_', '-')}", help=description, **options)


EXAMPLE = """Such as '{"choice": ["yes", "no"]}'."""


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"it must be at least {least}, not {value}")
        return value

    number.__name__ = "whole number"  # As argparse calls it.
    return number


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
