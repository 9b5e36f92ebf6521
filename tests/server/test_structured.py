"""Answers of a form, asked by OpenAI's client."""

import json
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from .conftest import MODEL

MESSAGES: Any = [{"role": "user", "content": "Alice, who is 31, lives in Paris. Who is it, and of what kind?"}]


class Person(BaseModel):
    name: str
    age: int
    kind: Literal["person", "city"]


def test_a_pydantic_model(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_format=Person, temperature=0, max_tokens=100
    )
    person = answer.choices[0].message.parsed
    assert person
    assert person.kind in ("person", "city")
    response = client.responses.parse(model=MODEL, input="Alice is 31.", text_format=Person, max_output_tokens=100)
    assert isinstance(response.output_parsed, Person)


def test_a_stream_of_json(client: OpenAI) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema()}}
    options: Any = {"model": MODEL, "messages": MESSAGES, "response_format": schema, "temperature": 0, "n": 2}
    whole = client.chat.completions.create(**options)
    parts = ["", ""]
    for chunk in client.chat.completions.create(stream=True, **options):
        for choice in chunk.choices:
            parts[choice.index] += choice.delta.content or ""
    assert parts == [choice.message.content for choice in whole.choices]
    assert all(Person(**json.loads(part)) for part in parts)


def test_extensions(client: OpenAI) -> None:
    def ask(**constraint: Any) -> str | None:
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body=constraint, max_tokens=30)
        return answer.choices[0].message.content

    assert ask(choice=["red", "green"]) in ("red", "green")
    assert (ask(regex="[a-z]{3}") or "").isalpha()
    assert ask(grammar='start: "one" | "two"') in ("one", "two")
    completion = client.completions.create(model=MODEL, prompt="2 + 2 =", extra_body={"regex": " [0-9]"})
    assert completion.choices[0].text.strip().isdigit()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format: a schema is missing"),
        ({"response_format": {"type": "xml"}}, "'xml'"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "odd"}}}},
            "json_schema: .*odd",
        ),
        ({"regex": "(a"}, "regex: "),
        ({"regex": "a", "response_format": {"type": "json_object"}}, "not 2 of them"),
    ],
)
def test_what_cannot_be_honoured(client: OpenAI, body: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body=body)
