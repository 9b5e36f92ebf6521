"""`/v1/responses`, asked by OpenAI's client."""

import json
from typing import Any

import openai
import pytest
from openai import OpenAI

from .conftest import MODEL, Api

GREEDY: Any = {"model": MODEL, "temperature": 0, "max_output_tokens": 24}
JSON = {"Content-Type": "application/json"}
QUESTION = "What is the capital of France?"


def test_a_response(client: OpenAI) -> None:
    response = client.responses.create(input=QUESTION, **GREEDY)
    assert "Paris" in response.output_text
    assert response.status == "completed"
    assert response.usage
    assert response.usage.output_tokens > 0
    short = client.responses.create(input=QUESTION, **GREEDY | {"max_output_tokens": 2})
    assert short.status == "incomplete"
    assert short.incomplete_details
    assert short.incomplete_details.reason == "max_output_tokens"


def test_a_conversation(client: OpenAI) -> None:
    turns: Any = [
        {"role": "user", "content": "Say yes."},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes."}]},
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
    ]
    response = client.responses.create(input=turns, instructions="You are a helpful assistant.", **GREEDY)
    chat: Any = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Say yes."},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": QUESTION},
    ]
    answer = client.chat.completions.create(model=MODEL, temperature=0, max_tokens=24, messages=chat)
    assert response.output_text == answer.choices[0].message.content


def test_a_stream(client: OpenAI) -> None:
    events = list(client.responses.create(input=QUESTION, stream=True, **GREEDY))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text == client.responses.create(input=QUESTION, **GREEDY).output_text


CALCULATE: Any = {
    "type": "function",
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"enum": [40, 41]}, "b": {"enum": [1, 2]}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "strict": True,
}
ASKED: Any = GREEDY | {"tools": [CALCULATE], "tool_choice": "required", "parallel_tool_calls": False}


def test_calls_and_their_results(client: OpenAI) -> None:
    response = client.responses.create(input="40 plus 2?", **ASKED | {"max_output_tokens": 60})
    (call,) = response.output
    assert call.type == "function_call"
    assert call.name == "add"
    assert json.loads(call.arguments).keys() == {"a", "b"}
    assert response.status == call.status == "completed"
    turns: Any = [
        {"role": "user", "content": "40 plus 2?"},
        call.to_dict(),
        {"type": "function_call_output", "call_id": call.call_id, "output": "42"},
    ]
    answer = client.responses.create(input=turns, **ASKED | {"tool_choice": "none"})
    called: Any = {"id": "a", "type": "function", "function": {"name": "add", "arguments": call.arguments}}
    chat: Any = [
        turns[0],
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "a", "content": "42"},
    ]
    same = client.chat.completions.create(model=MODEL, temperature=0, max_tokens=24, messages=chat)
    assert answer.output_text == same.choices[0].message.content


@pytest.mark.parametrize("most", [60, 20])
def test_a_stream_of_a_call(client: OpenAI, most: int) -> None:
    options = ASKED | {"max_output_tokens": most, "tool_choice": {"type": "function", "name": "add"}}
    whole = client.responses.create(input="40 plus 2?", **options)
    events = list(client.responses.create(input="40 plus 2?", stream=True, **options))
    kinds = [event.type for event in events if not event.type.endswith(".delta")]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed" if most == 60 else "response.incomplete",
    ]
    arguments = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    assert events[-1].type in ("response.completed", "response.incomplete")
    (call,) = events[-1].response.output
    (other,) = whole.output
    assert call.type == other.type == "function_call"
    assert call.arguments == other.arguments == arguments
    assert call.status == other.status == events[-1].response.status
    assert call.name == "add"


def test_words_where_there_are_tools(client: OpenAI) -> None:
    options = ASKED | {"tool_choice": "auto"}
    whole = client.responses.create(input="Say hello.", **options)
    events = list(client.responses.create(input="Say hello.", stream=True, **options))
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert [item.type for item in events[-1].response.output] == [item.type for item in whole.output]
    assert events[-1].response.output_text == whole.output_text


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [CALCULATE | {"name": "a b"}]}, "tools.0.name"),
        ({"tool_choice": {"type": "function", "name": "sub"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "json_object"}}}, "tools"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "42"}]}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input.0"),
    ],
)
def test_tools_that_cannot_be(client: OpenAI, change: dict[str, Any], field: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(**{"input": QUESTION, **ASKED, **change})
    assert error.value.param == field


@pytest.mark.parametrize("change", [{"previous_response_id": "resp-1"}, {"text": {"format": {"type": "xml"}}}])
def test_what_is_not_supported_is_named(client: OpenAI, change: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(input=QUESTION, **GREEDY | change)
    assert (error.value.param or "").startswith(*change)


def test_what_comes_back_is_what_json_can_say(api: Api) -> None:
    """Halves of surrogate pairs become the replacement character; numbers that are none are refused."""
    tool = CALCULATE | {"description": "\ud800", "more": 1}
    asked = {"model": MODEL, "input": "Hi", "max_output_tokens": 2, "tools": [tool], "tool_choice": "none"}
    for stream in (False, True):
        answer = api.post("/v1/responses", content=json.dumps(asked | {"stream": stream}), headers=JSON)
        assert answer.status_code == 200
        assert "\N{REPLACEMENT CHARACTER}" in answer.text or "\\ufffd" in answer.text
        assert ("response.completed" in answer.text or "response.incomplete" in answer.text) == stream
    answer = api.post("/v1/responses", content=json.dumps(asked).replace("1}", "NaN}"), headers=JSON)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"]
