"""Structured answers: JSON of a form that the visitor gives as a JSON schema.

Schemas come from visitors and answers from a model, so checking one by the other must end soon whatever they hold:
references are followed once, when a schema is read, and what can take for ever is refused there.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NoReturn
from urllib.parse import unquote

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.exceptions import best_match
from referencing import Registry

from falcon_runtime.errors import InvalidRequest

from .words import say

MAX_CHARACTERS = 20_000
MAX_PARTS = 2_000
"""Of a schema whose references are followed: each may be looked at for each part of an answer."""
MAX_DEPTH = 64
ENDLESS = ("pattern", "patternProperties", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef")
"""With some schemas, checking these takes time that doubles with each character or level."""
IDENTITY = ("$id", "$schema", "$ref")
"""What says where a schema comes from. One whose references are followed stands for itself."""

Schema = dict[str, Any]


def _text(schema: Schema) -> str:
    return json.dumps(schema, indent=2)


EXAMPLES: dict[str, str] = {
    "Contact": _text(
        {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "email": {"type": "string", "format": "email"},
                "phone": {"type": "string"},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    ),
    "Event": _text(
        {
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "date": {"type": "string", "format": "date"},
                "place": {"type": "string"},
            },
            "required": ["title", "date", "place"],
            "additionalProperties": False,
        }
    ),
    "Review": _text(
        {
            "type": "object",
            "properties": {
                "sentiment": {"enum": ["positive", "negative", "mixed"]},
                "score": {"type": "integer", "minimum": 1, "maximum": 5},
                "points": {"type": "array", "items": {"type": "string"}},
            },
            "required": ["sentiment", "score", "points"],
            "additionalProperties": False,
        }
    ),
}

TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "array": "list",
    "object": "object",
}
STRINGS = {"date": "YYYY-MM-DD", "time": "hh:mm:ssZ", "date-time": "YYYY-MM-DDThh:mm:ssZ"}
"""What strings of a format look like, where showing it does not invite copying it."""
REMARKS = {
    "format": "{}",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "description": "{}",
}


@dataclass(frozen=True)
class Answer:
    """What a model answered."""

    value: Any | None
    """The JSON in it, also if it is not of the form that was asked for."""
    problem: str
    """What is wrong with it, as a sentence; empty if nothing is."""


def examples() -> dict[str, str]:
    """The examples by what the page calls them."""
    return {say(f"formats.example.{name.lower()}"): schema for name, schema in EXAMPLES.items()}


def check_schema(text: str) -> Schema:
    """The schema that a visitor wrote, with what each reference refers to in its place.

    Errors: InvalidRequest if it is too long, not JSON, not a schema of an object, refers to something outside or to
    itself, or could take for ever to check.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(say("formats.long", count=len(text), most=MAX_CHARACTERS))
    try:
        written = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"{error.msg[0].lower()}{error.msg[1:]}"
        told = say("formats.no_json_at", problem=problem, line=error.lineno, column=error.colno)
        raise InvalidRequest(told) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(say("formats.no_json")) from error
    schema = _followed(written, written, count(1))
    if not isinstance(schema, dict):
        raise InvalidRequest(say("formats.no_object", example='{"type": "object", "properties": {...}}'))
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise InvalidRequest(say("formats.no_schema", problem=_sentence(error))) from error
    if _merged(schema).get("type") != "object":
        raise InvalidRequest(say("formats.of_no_object", type='"type": "object"', properties='"properties"'))
    return schema


def ask_for(schema: Schema) -> str:
    """What to add to an instruction for an answer of this form. Small models follow a list of fields and a pattern to
    fill in better than a JSON schema."""
    fields = "\n".join(f"- {field}" for field in _fields(schema))
    pattern = json.dumps(_pattern(schema), ensure_ascii=False)
    listed = f" with these fields:\n{fields}\n" if fields else ". "
    return f"Answer with only one JSON object{listed}Write nothing before or after it. Fill in this pattern:\n{pattern}"


def read_answer(text: str, schema: Schema) -> Answer:
    """The JSON in an answer: the first object that is of the form, else the first one. The schema is one of
    `check_schema`'s."""
    # An empty registry: nothing that a schema refers to is ever fetched.
    validator = Draft202012Validator(schema, registry=Registry(), format_checker=Draft202012Validator.FORMAT_CHECKER)
    objects, broken_off = _objects(text.rstrip())
    answers = [Answer(value, _problem(validator, value)) for value in objects]
    for answer in answers:
        if not answer.problem:
            return answer
    if answers:
        return answers[0]
    return Answer(None, say("formats.broken_off" if broken_off else "formats.without_json"))


def _objects(text: str) -> tuple[list[Schema], bool]:
    """All JSON objects in a text, without those within others, and whether the text ends within one."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    found = []
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, end = decoder.raw_decode(text, start)
            found.append(value)
        except json.JSONDecodeError as error:
            if error.pos == len(text) or error.msg.startswith("Unterminated string"):
                return found, True
        except (ValueError, RecursionError):
            pass
        start = text.find("{", end)
    return found, False


def _problem(validator: Draft202012Validator, value: Any) -> str:
    """What is wrong with a value, as a sentence; empty if it is of the form."""
    try:
        error = best_match(validator.iter_errors(value))
    except (RecursionError, OverflowError):
        return say("formats.beyond")
    if error is None:
        return ""
    return say("formats.other_form", problem=_sentence(error))


def _sentence(error: ValidationError | SchemaError) -> str:
    """A problem that jsonschema found, with its place in front."""
    place = ".".join(str(part) for part in error.absolute_path)
    return (f"{place}: " if place else "") + f"{error.message:.300}."


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _followed(node: Any, root: Any, parts: Iterator[int], depth: int = 0) -> Any:
    """A part of the schema `root`, with what each reference refers to in its place; `parts` counts them."""
    if next(parts) > MAX_PARTS or depth > MAX_DEPTH:
        raise InvalidRequest(say("formats.large"))
    if isinstance(node, list):
        return [_followed(item, root, parts, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    copy = {}
    for key, value in node.items():
        if key in ENDLESS and (isinstance(value, str) or key != "pattern"):  # A field may be called pattern.
            raise InvalidRequest(say("formats.forever", key=key))
        if key not in IDENTITY or not isinstance(value, str):
            copy[key] = _followed(value, root, parts, depth + 1)
    if isinstance(reference := node.get("$ref"), str):
        target = _followed(_at(root, reference), root, parts, depth + 1)
        return {"allOf": [target, copy]} if copy else target
    return copy


def _at(root: Any, reference: str) -> Any:
    """What a reference refers to."""
    if not reference.startswith("#"):
        raise InvalidRequest(say("formats.outside", reference=reference[:100]))
    node = root
    try:
        for step in unquote(reference[1:]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            node = node[int(key)] if isinstance(node, list) else node[key]
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidRequest(say("formats.missing", reference=reference[:100])) from error
    return node


def _merged(schema: Any) -> Schema:
    """A schema with those that it is made of, as far as describing it goes."""
    merged: Schema = {}
    for part in (*map(_merged, schema.get("allOf", ())), schema) if isinstance(schema, dict) else ():
        lists = {
            "properties": {**merged.get("properties", {}), **part.get("properties", {})},
            "required": [*merged.get("required", ()), *part.get("required", ())],
        }
        merged |= part | {key: value for key, value in lists.items() if value}
    return merged


def _fields(schema: Schema) -> list[str]:
    """Each field of an object: its name, what it holds, and whether it may be missing."""
    merged = _merged(schema)
    required = merged.get("required", ())
    return [
        f"{name}: {_kind(field)}{'' if name in required else ', may be left out'}"
        for name, field in merged.get("properties", {}).items()
    ]


def _kind(schema: Any) -> str:
    """What a schema allows, in words."""
    merged = _merged(schema)
    remarks = [words.format(merged[key]) for key, words in REMARKS.items() if key in merged]
    return ", ".join([_type(merged), *remarks])


def _type(merged: Schema) -> str:
    if "const" in merged:
        return json.dumps(merged["const"], ensure_ascii=False)
    if "enum" in merged:
        return "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in merged["enum"])
    if choices := merged.get("anyOf") or merged.get("oneOf"):
        return " or ".join(map(_kind, choices))
    names = [TYPES[name] for name in _types(merged)]
    if "items" in merged:
        names = [f"list of {_kind(merged['items'])}" if name == "list" else name for name in names]
    if "properties" in merged:
        names = [f"object with ({'; '.join(_fields(merged))})" if name == "object" else name for name in names]
    return " or ".join(names) or "anything"


def _types(merged: Schema) -> list[str]:
    types = merged.get("type", [])
    return [types] if isinstance(types, str) else types


def _pattern(schema: Any) -> Any:
    """An example of what a schema allows, with dots where text goes."""
    merged = _merged(schema)
    if "const" in merged:
        return merged["const"]
    if "enum" in merged:
        return merged["enum"][0] if merged["enum"] else None
    if choices := merged.get("anyOf") or merged.get("oneOf"):
        return _pattern(choices[0])
    kind = next(iter(_types(merged)), "string")
    if kind == "object":
        return {name: _pattern(field) for name, field in merged.get("properties", {}).items()}
    if kind == "array":
        return [_pattern(merged.get("items", True))]
    if kind == "string":
        return STRINGS.get(merged.get("format", ""), "...")
    return {"boolean": True, "null": None}.get(kind, merged.get("minimum", 0))
