"""The page's words: that they are there in all languages, and are right where there are numbers."""

import ast
import json
import re
from itertools import product
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import Any

import pytest
from babel import Locale

from falcon_runtime.chunk import Stats
from falcon_runtime.models.catalog import CATALOG
from falcon_runtime.models.stock.manifest import REMARKS
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.status import Status
from ui import controls, stats, words
from ui.language import SAID, language_of
from ui.models import LICENCES
from ui.update import Update

UI = Path(words.__file__).parent
TRANSLATIONS = [code for code in words.NAMES if code != words.DEFAULT]
ENGLISH = words.dictionary(words.DEFAULT)


def forms(said: words.Words) -> dict[str, str]:
    """The texts of an entry, by the plural forms for which they are."""
    return {"other": said} if isinstance(said, str) else dict(said)


def places(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def test_all_languages_have_the_same_keys() -> None:
    files = {path.stem for path in words.HERE.glob("*.json")}
    assert files == set(words.NAMES)
    for code in TRANSLATIONS:
        assert list(words.dictionary(code)) == list(ENGLISH), code


def test_no_key_stands_twice() -> None:
    for code in words.NAMES:
        keys = re.findall(r'^  "([\w.]+)":', (words.HERE / f"{code}.json").read_text(), re.MULTILINE)
        assert len(keys) == len(set(keys)), code


@pytest.mark.parametrize("code", words.NAMES)
def test_texts_have_the_places_of_the_english_ones(code: str) -> None:
    plurals = {*Locale.parse(code).plural_form.tags, "other"}
    for key, english in ENGLISH.items():
        wanted = places(forms(english)["other"])
        told = forms(words.dictionary(code)[key])
        assert "other" in told
        assert set(told) <= plurals, key
        assert len(told) in (1, len(plurals) - ("many" in plurals and code != "ar")), f"{code}: {key} lacks a form"
        assert len(told) == 1 or not isinstance(english, str), f"{key} is said without a count"
        for form, text in told.items():
            # One thing, or two, may be told without a number.
            assert wanted - {"count"} <= places(text) <= wanted | {"count"}, (code, key, form)
            assert "count" not in places(text) or "count" in wanted or not isinstance(english, str), (code, key)
    for text in (text for said in words.dictionary(code).values() for text in forms(said).values()):
        assert not re.search(r'[<>&"⟦⟧]', text), "words stand in HTML and in scripts as they are"


def keys(argument: ast.expr) -> list[str]:
    """What `say` is called with, as patterns of keys."""
    match argument:
        case ast.Constant(str(key)):
            return [re.escape(key)]
        case ast.JoinedStr(parts):
            return ["".join(re.escape(p.value) if isinstance(p, ast.Constant) else r"\w+" for p in parts)]
        case ast.IfExp(_, first, second):
            return keys(first) + keys(second)
    return []


def test_every_key_is_said_and_every_said_key_is_there() -> None:
    nodes = [node for path in UI.glob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    said = {
        key
        for node in nodes
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "say"
        for key in keys(node.args[0])
    }
    for path in (*UI.glob("script/*.js"), words.HERE / "language.js"):
        said |= {re.escape(key) for key in SAID.findall(path.read_text())}
    for pattern in said:
        assert any(re.fullmatch(pattern, key) for key in ENGLISH), f"{pattern} is said but not there"
    named = {node.value for node in nodes if isinstance(node, ast.Constant)}
    for key in ENGLISH:
        assert key in named or any(re.fullmatch(pattern, key) for pattern in said), f"nobody says {key}"


def test_fields_are_described_as_the_library_does() -> None:
    for name in (*controls.NAMES, "stop", "logit_bias"):
        description = SamplingParams.model_fields[name].description or ""
        assert controls.described(name)["info"].startswith(description)
        assert controls.described(name)["label"] == name.replace("_", " ").capitalize()


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("en", "Prefill <b>1,234</b> tokens at <b>56</b> tok/s"),
        ("de", "Prefill <b>1.234</b> Tokens mit <b>56</b> Tok/s"),
        ("fr", "Prefill <b>1\u202f234</b> tokens à <b>56</b> tok/s"),
        ("es", "Prefill <b>1.234</b> tokens a <b>56</b> tok/s"),
        ("ar", "بسرعة \u2068<b>56</b>\u2069 رمز/ث"),
    ],
)
def test_numbers_are_written_as_in_the_language(code: str, line: str) -> None:
    figures = Stats(prompt_tokens=1234, prefilled_tokens=1234, prefill_tokens_per_second=56.3)
    with words.speaking(code):
        assert line in stats.line(Update(stats=figures))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "لا أحرف"),
        (1, "حرف واحد"),
        (2, "حرفان"),
        (3, "3 أحرف"),
        (11, "11 حرفًا"),
        (100, "100 حرف"),
        (1103, "1,103 أحرف"),
    ],
)
def test_arabic_has_six_plural_forms(count: int, text: str) -> None:
    with words.speaking("ar"):
        assert words.say("instruct.characters", count=count) == text


def test_percent() -> None:
    said = {}
    for code, digits in product(words.NAMES, (0, 1)):
        with words.speaking(code):
            said[code, digits] = words.percent(0.1234, digits)
    assert (said["en", 0], said["en", 1]) == ("12%", "12.3%")
    assert (said["de", 0], said["de", 1]) == ("12\xa0%", "12,3\xa0%")
    assert "12.3" in said["ar", 1]


def test_the_runtimes_sentences_are_told_who_reads_english() -> None:
    status = Status("loading", "Compiling the engine for this processor, once", 0.4, 100)
    assert words.status(status) == str(status) == "Compiling the engine for this processor, once 40%, about 2 min left"
    assert words.status(Status("downloading")) == "Downloading"
    with words.speaking("de"):
        assert words.status(status) == "Wird geladen 40\xa0%, noch etwa 2 min"
        assert words.status(Status("failed", "No space is left.")) == "No space is left."


def test_what_is_laid_out_for_all_is_said_to_each() -> None:
    with words.speaking(words.NOBODYS):
        defaults = words.say("sampling.defaults", title="A|B⟧ &lt;b&gt;")
        page: dict[str, Any] = {
            "label": words.say("generate.text"),
            "choices": [(words.say("sampling.preset.precise"), "Precise")],
            "html": f"<p title='{defaults}'>{words.say('stats.idle')}</p>",
            "many": words.say("instruct.keep", count=1200),
            "number": 1,
        }
    page = json.loads(json.dumps(page))
    assert words.translate(page, "de") == {
        "label": "Text",
        "choices": [["Präzise", "Precise"]],
        "html": "<p title='Standardwerte von A|B⟧ &lt;b&gt;'>Noch nichts gefragt</p>",
        "many": "Die ersten 1.200 Tokens behalten",
        "number": 1,
    }


@pytest.mark.parametrize(
    ("query", "headers", "code"),
    [
        ("", {}, "en"),
        ("", {"accept-language": "de-AT,de;q=0.9,en;q=0.8"}, "de"),
        ("", {"accept-language": "pt-BR, en;q=0.5, fr;q=0.7, *;q=0.1"}, "fr"),
        ("", {"accept-language": "fr;q=0, es"}, "es"),
        ("", {"accept-language": "zh, *"}, "en"),
        ("", {"accept-language": ";;q=,q=x;q=y, ar;q=1e, \x00"}, "en"),
        ("lang=ar", {"accept-language": "de"}, "ar"),
        ("lang=xx", {"accept-language": "de"}, "de"),
        ("", {"accept-language": "de", "referer": "https://somewhere.example/page?lang=es&view=api"}, "es"),
        ("", {"accept-language": "de", "referer": "//[?lang=es"}, "es"),
        ("lang=fr", {"referer": "https://somewhere.example/?lang=es"}, "fr"),
    ],
)
def test_the_language_of_a_request(query: str, headers: dict[str, str], code: str) -> None:
    assert language_of(query, headers) == code


def test_what_the_catalogues_licences_ask_for_is_said_in_all_languages() -> None:
    for entry in CATALOG.values():
        assert words.dictionary(words.DEFAULT)[LICENCES[entry.licence]] == entry.licence_summary


def test_so_is_what_some_programs_cannot_do() -> None:
    for remark, told in REMARKS.items():
        assert words.dictionary(words.DEFAULT)[f"models.remark.{remark}"] == told[0].upper() + told[1:]


@pytest.mark.parametrize(
    ("code", "told"),
    [("en", "int4 · 2,048 tokens of context · 8 at once"), ("de", "int4 · 2.048 Tokens Kontext · 8 gleichzeitig")],
)
def test_what_a_model_is_in_a_few_words(code: str, told: str) -> None:
    runtime: Any = SimpleNamespace(recipe="int4", context=2048, slots=8, draft=None)
    with words.speaking(code):
        assert words.kind(runtime) == told
        runtime.slots, runtime.draft = 1, "Small"
        assert words.kind(runtime).endswith(f" · {words.say('kind.drafts', title='Small')}")
        runtime.context = None
        assert words.kind(runtime) == ""
