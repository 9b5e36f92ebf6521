"""The words of the page, in the visitor's language.

`languages/` has a file for each language, with the same keys; a text with a number may have the plural forms of its
language (Unicode CLDR, which Babel knows). The page is laid out once for all visitors: while it is, `say` gives marks,
and `translate` puts the words in their place for each visitor. So every place of a component can have words: Gradio's
own way (`gr.I18n`) knows labels and values, but neither the names of choices nor what stands in HTML.

What `falcon_runtime` says, errors above all, is English everywhere: it is the API's.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from babel import Locale
from babel.lists import format_list
from babel.numbers import format_decimal, format_percent

from falcon_runtime.runtime import FalconRuntime
from falcon_runtime.status import Status

HERE = Path(__file__).parent / "languages"
NAMES = {"en": "English", "ar": "العربية", "fr": "Français", "es": "Español", "de": "Deutsch"}
"""The languages, by their codes (BCP 47), as those who speak them call them."""
DEFAULT = "en"
RIGHT_TO_LEFT = ("ar",)
NOBODYS = ""
"""Stands for a language while the page is laid out, for all visitors."""
MARK = re.compile(r"⟦([\w.]+)((?:\|\w+=[^|⟧]*)*)⟧")

Words = str | Mapping[str, str]
"""A text with places for values in braces; or several, by the plural forms for which they are, as CLDR calls them."""

_language = ContextVar("language", default=DEFAULT)


def say(key: str, /, **values: Any) -> str:
    """The words of `key`, with `values` in their places: whole numbers as the language writes them, anything else as it
    is, set apart where its direction may be another (U+2068, U+2069; Unicode Standard Annex 9). Which plural form they
    have is told by the value `count`.

    Words have no characters that HTML has a use for. Values may: what goes into HTML is escaped before.
    """
    if (code := _language.get()) == NOBODYS:
        told = "".join(f"|{name}={quote(json.dumps(value))}" for name, value in values.items())
        return f"⟦{key}{told}⟧"
    return _say(code, key, values)


def number(value: float, digits: int = 0) -> str:
    """A number as the language writes it, with so many digits after the point."""
    return format_decimal(value, f"#,##0.{'0' * digits}" if digits else "#,##0", locale=language())


def percent(share: float, digits: int = 0) -> str:
    """A share of one in percent."""
    return format_percent(share, _percent_pattern(language(), digits), locale=language())


def status(status: Status) -> str:
    """What a model's status says. The runtime's own sentences are English; who reads another language is told the state
    in that, but why something failed as it is."""
    last = status.state == "failed" or (status.state == "idle" and status.message)
    said = status.message if last or language() == DEFAULT else ""
    said = said or say(f"status.{status.state}")
    said += f" {percent(status.progress)}" if status.progress is not None else ""
    return said if status.eta_s is None else say("status.left", status=said, time=duration(status.eta_s))


def kind(runtime: FalconRuntime) -> str:
    """Recipe, context, slots and draft model in a few words; empty until the model is loaded."""
    if not (runtime.recipe and runtime.context and runtime.slots):
        return ""
    parts = [runtime.recipe, say("kind.context", count=runtime.context)]
    parts += [say("kind.slots", count=runtime.slots)] if runtime.slots > 1 else []
    parts += [say("kind.drafts", title=runtime.draft)] if runtime.draft else []
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """A time that something takes, roughly."""
    return say("time.seconds", count=round(seconds)) if seconds < 90 else say("time.minutes", count=round(seconds / 60))


def language() -> str:
    """The code of the language of the visitor for whom something is done now; English where there is none."""
    return _language.get() or DEFAULT


def languages(codes: Sequence[str]) -> str:
    """What languages are called in that of the visitor."""
    locale = Locale.parse(language())
    return format_list([locale.languages[code] for code in codes], locale=locale)


def direction(code: str) -> str:
    return "rtl" if code in RIGHT_TO_LEFT else "ltr"


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """While something is done for a visitor with this language; `NOBODYS` while the page is laid out."""
    token = _language.set(code)
    try:
        yield
    finally:
        _language.reset(token)


def translate(page: Any, code: str) -> Any:
    """What was laid out, which may be anything that is JSON, in a language."""
    if isinstance(page, str):
        return MARK.sub(lambda mark: _say(code, mark[1], _values(mark[2])), page) if "⟦" in page else page
    if isinstance(page, dict):
        return {name: translate(value, code) for name, value in page.items()}
    return [translate(value, code) for value in page] if isinstance(page, list | tuple) else page


@cache
def dictionary(code: str) -> dict[str, Words]:
    """All words of a language, by their keys."""
    words: dict[str, Words] = json.loads((HERE / f"{code}.json").read_text())
    return words


def _say(code: str, key: str, values: Mapping[str, Any]) -> str:
    words = dictionary(code).get(key) or dictionary(DEFAULT)[key]
    if not isinstance(words, str):
        words = words.get(_plural_form(code, values["count"]), words["other"])
    return words.format_map({name: _written(value, code) for name, value in values.items()}) if values else words


def _written(value: Any, code: str) -> str:
    if isinstance(value, int):
        return format_decimal(value, locale=code)
    return f"\u2068{value}\u2069" if code in RIGHT_TO_LEFT else str(value)


@lru_cache(1024)
def _plural_form(code: str, count: float) -> str:
    return Locale.parse(code).plural_form(count)


@cache
def _percent_pattern(code: str, digits: int) -> str:
    """Where the language puts the sign, with digits after the point."""
    pattern: str = Locale.parse(code).percent_formats[None].pattern
    return pattern.replace("#,##0", f"#,##0.{'0' * digits}") if digits else pattern


def _values(told: str) -> dict[str, Any]:
    """What a mark tells of the values in it."""
    pairs = (pair.split("=", 1) for pair in told.split("|")[1:])
    return {name: json.loads(unquote(value)) for name, value in pairs}
