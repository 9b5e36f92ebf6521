"""LangChain's `ChatOpenAI`."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from .conftest import MODEL, Api

QUESTION = "What is the capital of France?"


class Capital(BaseModel):
    """A country's capital."""

    country: Literal["France", "Italy"]
    city: str


@pytest.fixture
def chat(api: Api, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    from langchain_openai import ChatOpenAI  # It takes seconds.

    return ChatOpenAI(base_url=f"{api.url}/v1", api_key="any", model=MODEL, temperature=0, max_tokens=64)


def test_invoke_and_stream(chat: Any) -> None:
    answer = chat.invoke([("system", "You answer in one sentence."), ("human", QUESTION)])
    assert "Paris" in answer.content
    assert answer.response_metadata["model_name"] == MODEL
    assert answer.usage_metadata["output_tokens"] > 0

    pieces = list(chat.stream([("system", "You answer in one sentence."), ("human", QUESTION)], stream_usage=True))
    assert len(pieces) > 3
    assert "".join(piece.content for piece in pieces) == answer.content
    assert sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata) > 0


def test_structured_output(chat: Any) -> None:
    for way in ("json_schema", "function_calling"):
        told = chat.with_structured_output(Capital, method=way).invoke(QUESTION)
        assert isinstance(told, Capital), way


def test_responses(api: Api, chat: Any) -> None:
    answer = type(chat)(
        base_url=f"{api.url}/v1", api_key="any", model=MODEL, temperature=0, use_responses_api=True
    ).invoke(QUESTION)
    assert "Paris" in answer.text
