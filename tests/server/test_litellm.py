"""LiteLLM, by which agents and gateways reach models of all kinds."""

from typing import Any

import pytest

from .conftest import MODEL, Api

QUESTION: list[dict[str, Any]] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # It would look for news of prices.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    import litellm  # It takes seconds.

    return litellm


def test_completion_and_stream(litellm: Any, api: Api) -> None:
    options: dict[str, Any] = {"model": f"openai/{MODEL}", "api_base": f"{api.url}/v1", "api_key": "any"}
    options |= {"messages": QUESTION, "temperature": 0, "max_tokens": 24}
    whole = litellm.completion(**options)
    text = whole.choices[0].message.content
    assert "Paris" in text
    assert whole.usage.completion_tokens > 0

    chunks = list(litellm.completion(stream=True, stream_options={"include_usage": True}, **options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert litellm.stream_chunk_builder(chunks).usage.completion_tokens == whole.usage.completion_tokens

    schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    told = litellm.completion(response_format=form, **options)
    assert told.choices[0].message.content in ('{"city": "Paris"}', '{"city": "Rome"}')


def test_text_completion(litellm: Any, api: Api) -> None:
    options = {"model": f"text-completion-openai/{MODEL}", "api_base": f"{api.url}/v1", "api_key": "any"}
    done = litellm.text_completion(prompt="1, 2, 3, 4, 5,", temperature=0, max_tokens=8, **options)
    assert done.choices[0].text.startswith(" 6, 7, 8")


def test_errors_are_those_of_the_server(litellm: Any, api: Api) -> None:
    options = {"api_base": f"{api.url}/v1", "api_key": "any", "messages": QUESTION, "num_retries": 0}
    with pytest.raises(litellm.NotFoundError, match="There is no model 'nobody' here"):
        litellm.completion(model="openai/nobody", **options)
    with pytest.raises(litellm.BadRequestError, match="temperature: "):
        litellm.completion(model=f"openai/{MODEL}", temperature=7, **options)
    long = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(model=f"openai/{MODEL}", **options | {"messages": long})
