"""Writes the tables of the README that the code knows better: `python docs/tables.py`.

Each stands between `<!-- NAME -->` and `<!-- end of NAME -->`.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from falcon_runtime import SamplingParams  # noqa: E402
from falcon_runtime.cli import arguments  # noqa: E402
from falcon_runtime.limits import RequestLimits  # noqa: E402
from falcon_runtime.models.catalog import CATALOG, STARTER  # noqa: E402
from falcon_runtime.models.sources import Wheel  # noqa: E402
from falcon_runtime.server.requests import REFUSED, Body, ChatBody, CompletionBody, ResponseBody  # noqa: E402
from falcon_runtime.server.settings import ModelSettings  # noqa: E402
from settings import Settings  # noqa: E402

README = ROOT / "README.md"
LIMITS = RequestLimits.model_fields
"""What comes last in the table of flags."""


def models() -> str:
    rows = [
        (
            f"`{entry.name}`" + " (default)" * (entry is STARTER),
            f"{entry.parameters / 1e9:.2f} B",
            entry.recipe,
            f"{entry.download_bytes / 1e9:.1f} GB",
            f"{entry.program_bytes / 1e9:.1f} GB",
            f"the wheel `{entry.source.requirement}`" if isinstance(entry.source, Wheel) else f"`{entry.source}`",
            f"[{entry.licence}]({entry.licence_url})",
        )
        for entry in CATALOG.values()
    ]
    return table(["name", "parameters", "recipe", "download", "converted", "source", "licence"], rows)


def commands() -> str:
    parser = arguments.build_parser()
    (found,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    names = {choice.dest: choice.help or "" for choice in found._choices_actions}
    rows = [(f"`falcon {name}`", description, own_flags(found.choices[name])) for name, description in names.items()]
    return table(["command", "what it does", "arguments of its own"], rows)


def own_flags(command: argparse.ArgumentParser) -> str:
    """The arguments that no group of commands shares."""
    shared = {"help", "json", "quiet", "verbose", *ModelSettings.model_fields, *SamplingParams.model_fields}
    own = [action for action in command._actions if action.dest not in shared or not action.option_strings]
    return " ".join(f"`{flag(action)}`" for action in own)


def flag(action: argparse.Action) -> str:
    if not action.option_strings:
        return action.dest.upper() if action.nargs != "?" else f"[{action.dest.upper()}]"
    value = "\\|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    return action.option_strings[0] + (f" {value}" if action.nargs != 0 else "")


def exit_codes() -> str:
    return table(["code", "meaning"], [(f"{code}", meaning) for code, meaning in arguments.EXIT_CODES.items()])


def app_flags() -> str:
    rows = [
        (f"`--{name.replace('_', '-')}`", f"`FALCON_{name.upper()}`", field.description or "", default(field.default))
        for name, field in sorted(Settings.model_fields.items(), key=lambda item: item[0] in LIMITS)
    ]
    return table(["flag", "variable", "what it says", "default"], rows)


def default(value: object) -> str:
    if value is None or value is False:
        return ""
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)


def api() -> str:
    bodies: dict[str, type[Body]] = {"chat": ChatBody, "completions": CompletionBody, "responses": ResponseBody}
    told: dict[tuple[str, str], list[str]] = {}
    for title, body in bodies.items():
        for name, field in body.model_fields.items():
            told.setdefault((name, field.description or described(name)), []).append(title)
    rows = [(f"`{name}`", ", ".join(titles), words) for (name, words), titles in told.items()]
    known = {name for name, _ in told}
    refused = ", ".join(f"`{name}`" + " elsewhere" * (name in known) for name in REFUSED)
    rule = "Refused with an error that names the field, unless its value has no effect"
    return f"{table(['field', 'of', 'what it does'], rows)}\n\n{rule}: {refused}."


def described(name: str) -> str:
    """What a field of the API is that goes to the engine as it is."""
    field = SamplingParams.model_fields.get(name)
    return (field.description or "") if field else ""


def sampling() -> str:
    rows = [
        (f"`{name}`", field.description or "", "" if field.default in (None, (), {}) else f"{field.get_default()}")
        for name, field in SamplingParams.model_fields.items()
    ]
    return table(["parameter", "what it does", "default"], rows)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "models": models,
    "commands": commands,
    "exit codes": exit_codes,
    "flags of the app": app_flags,
    "sampling": sampling,
    "api": api,
}


def filled(text: str) -> str:
    """`text` with its tables as the code has them now."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"There is no place for {name}."
        text = f"{before}{begin}{make()}\n{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text()))
