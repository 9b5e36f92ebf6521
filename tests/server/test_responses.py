"""`/v1/responses`, asked by OpenAI's client."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from .conftest import MODEL

GREEDY: Any = {"model": MODEL, "temperature": 0, "max_output_tokens": 24}
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


@pytest.mark.parametrize("change", [{"previous_response_id": "resp-1"}, {"text": {"format": {"type": "xml"}}}])
def test_what_is_not_supported_is_named(client: OpenAI, change: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(input=QUESTION, **GREEDY | change)
    assert (error.value.param or "").startswith(*change)
