"""Schemas that visitors write, some of them to do harm, and answers as small models give them."""

import json
import socket
from typing import Any

import pytest

from falcon_runtime.errors import InvalidRequest
from ui.formats import EXAMPLES, MAX_CHARACTERS, Answer, ask_for, check_schema, read_answer

REVIEW = check_schema(EXAMPLES["Review"])
GOOD = {"sentiment": "mixed", "score": 3, "points": ["long"]}
ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def schema(field: Any, **others: Any) -> str:
    """A schema of an object with one field."""
    return json.dumps({"type": "object", "properties": {"field": field}, **others})


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_pattern_of_an_example_has_its_form(name: str) -> None:
    checked = check_schema(EXAMPLES[name])
    answer = read_answer(ask_for(checked), checked)
    assert list(answer.value or ()) == list(checked["properties"])
    # Where an e-mail address or a date belongs, the pattern has dots.
    assert (" is not a '" in answer.problem) == ('"format"' in EXAMPLES[name]), answer.problem
    assert answer.problem == "" or '"format"' in EXAMPLES[name]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON: .*line 1, column 1"),
        ('{"type":\n "object",}', "not JSON: .*line 2, column 11"),
        ('{"type": "object", "default": NaN}', "not JSON"),
        ('{"not":' * 2_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "must describe an object"),
        ('{"type": "string"}', "must describe an object"),
        (schema({"type": "strin"}), r"not a JSON schema: properties\.field\.type: 'strin'"),
        (schema({"$ref": "https://example.com/schema"}), "https://example.com/schema, which is outside the schema"),
        (schema({"$ref": "other.json#/x"}), "outside"),
        (schema({"$ref": "#/$defs/missing"}), "#/.defs/missing, which is not in it"),
        (schema({"$ref": "#"}), "refers to itself"),
        (json.dumps({"$ref": "#"}), "refers to itself"),
        (schema({"type": "string", "pattern": "(a+)+$"}), "pattern"),
        (schema({}, unevaluatedProperties=False), "unevaluatedProperties"),
        (" " * (MAX_CHARACTERS + 1), "20,001 characters"),
    ],
)
def test_a_bad_schema_says_why(text: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        check_schema(text)


def test_references_that_double_are_refused() -> None:
    levels: dict[str, Any] = {str(i): {"allOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(50)}
    with pytest.raises(InvalidRequest, match="too large"):
        check_schema(schema({"$ref": "#/$defs/0"}, **{"$defs": {**levels, "50": {}}}))


def test_references_within_the_schema_are_followed() -> None:
    text = schema({"$ref": "#/$defs/a~1b", "description": "where it is"}, **{"$defs": {"a/b": ADDRESS}})
    checked = check_schema(text)
    assert "- field: object with (city: text), where it is, may be left out" in ask_for(checked)
    assert read_answer('{"field": {"city": "Rome"}}', checked).problem == ""
    assert "'city' is a required property" in read_answer('{"field": {}}', checked).problem


def test_a_field_may_be_called_like_a_keyword() -> None:
    fields = {"pattern": {"type": "string"}, "$ref": {"type": "integer"}, "$id": {"type": "integer"}}
    checked = check_schema(json.dumps({"type": "object", "properties": fields}))
    assert read_answer('{"pattern": "stripes", "$ref": 1, "$id": 2}', checked).problem == ""
    assert read_answer('{"$id": "x"}', checked).problem


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any) -> None:
        pytest.fail("it connected")

    monkeypatch.setattr(socket.socket, "connect", connect)
    checked = check_schema(schema({"type": "string"}, **{"$id": "http://[", "$schema": "http://127.0.0.1/schema"}))
    assert read_answer('{"field": "x"}', checked).problem == ""
    with pytest.raises(Exception, match="Unresolvable"):
        read_answer('{"field": "x"}', json.loads(schema({"$ref": "http://127.0.0.1/schema"})))


def test_what_is_asked_for() -> None:
    assert ask_for(REVIEW) == (
        "Answer with only one JSON object with these fields:\n"
        '- sentiment: one of "positive", "negative", "mixed"\n'
        "- score: whole number, at least 1, at most 5\n"
        "- points: list of text\n"
        "Write nothing before or after it. Fill in this pattern:\n"
        '{"sentiment": "positive", "score": 1, "points": ["..."]}'
    )
    assert "- field: text or null, may be left out" in ask_for(check_schema(schema({"type": ["string", "null"]})))
    assert "- field: number or null" in ask_for(check_schema(schema({"anyOf": [{"type": "number"}, {"type": "null"}]})))


@pytest.mark.parametrize(
    "text",
    [
        "%s",
        "Sure! Here it is:\n```json\n%s\n```\nAnything else?",
        "```\n%s\n```",
        "In {curly} braces: %s.",
        'First {"score": 9}, or rather %s',
        "[%s]",
    ],
)
def test_the_json_is_found_in_what_surrounds_it(text: str) -> None:
    assert read_answer(text % json.dumps(GOOD, indent=1), REVIEW) == Answer(GOOD, "")


@pytest.mark.parametrize(
    ("text", "value", "problem"),
    [
        ("", None, "The answer holds no JSON."),
        ("I {cannot} do that.", None, "The answer holds no JSON."),
        ('{"score": NaN}', None, "The answer holds no JSON."),
        ('{"a":' * 2_000, None, "The answer breaks off within its JSON."),
        ('{"points": ["long", "wi', None, "The answer breaks off within its JSON."),
        ('{"points": {"a": 1}, ', None, "The answer breaks off within its JSON."),
        (
            json.dumps(GOOD | {"score": 7}),
            GOOD | {"score": 7},
            "The answer is JSON but not of this form: score: 7 is greater than the maximum of 5.",
        ),
        (
            json.dumps(GOOD | {"points": ["long", 1]}),
            GOOD | {"points": ["long", 1]},
            "The answer is JSON but not of this form: points.1: 1 is not of type 'string'.",
        ),
    ],
)
def test_what_is_wrong_with_an_answer(text: str, value: Any, problem: str) -> None:
    assert read_answer(text, REVIEW) == Answer(value, problem)


def test_dates_are_checked() -> None:
    event = check_schema(EXAMPLES["Event"])
    assert read_answer('{"title": "Fair", "date": "2026-05-03", "place": "Rome"}', event).problem == ""
    assert "date: " in read_answer('{"title": "Fair", "date": "3 May", "place": "Rome"}', event).problem


def test_numbers_beyond_all_bounds_are_no_error() -> None:
    checked = check_schema(schema({"type": "number", "multipleOf": 0.5}))
    assert "too large or too deep" in read_answer('{"field": 1%s}' % ("0" * 400), checked).problem
