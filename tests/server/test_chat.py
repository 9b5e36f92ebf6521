"""`/v1/chat/completions`, asked by OpenAI's client."""

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from tests.awaited import awaited

from .conftest import MODEL, Api

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: Any = {"model": MODEL, "temperature": 0, "max_tokens": 24}


def text_of(chunks: Iterable[ChatCompletionChunk], index: int = 0) -> str:
    deltas = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(filter(None, deltas))


def test_an_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(messages=QUESTION, **GREEDY)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert "Paris" in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    assert answer.model == MODEL
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_is_the_same_answer(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Write a sentence with 🦜 and “quotes” in it."}]
    options = GREEDY | {"temperature": 1, "seed": 3}
    whole = client.chat.completions.create(messages=messages, **options)
    chunks = list(
        client.chat.completions.create(
            messages=messages,
            seed=3,
            stream=True,
            stream_options={"include_usage": True},
            **GREEDY | {"temperature": 1},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert text_of(chunks) == whole.choices[0].message.content
    endings = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert set(endings[:-1]) == {None}
    assert endings[-1] == whole.choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert not chunks[-1].choices
    assert chunks[-1].usage
    assert whole.usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_asked_from_asyncio(api: Api) -> None:
    async def ask() -> list[str | None]:
        async with AsyncOpenAI(
            base_url=f"{api.url}/v1", api_key="any", http_client=httpx.AsyncClient(trust_env=False)
        ) as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(messages=QUESTION, seed=i, **GREEDY) for i in range(4))
            )
        return [answer.choices[0].message.content for answer in answers]

    assert len(set(awaited(ask))) == 1  # The likeliest answer, whoever asks beside it.


def test_several_choices_have_seeds_of_their_own(client: OpenAI) -> None:
    options = GREEDY | {"temperature": 1.5, "max_tokens": 12}
    messages: Any = [{"role": "user", "content": "Name an animal."}]
    several = client.chat.completions.create(messages=messages, seed=7, n=3, **options)
    texts = [choice.message.content for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    for number, text in enumerate(texts):
        alone = client.chat.completions.create(messages=messages, seed=7 + number, **options)
        assert alone.choices[0].message.content == text
    chunks = list(client.chat.completions.create(messages=messages, seed=7, n=3, stream=True, **options))
    assert [text_of(chunks, number) for number in range(3)] == texts
    assert several.usage
    assert several.usage.completion_tokens > 12


def test_a_second_turn_finds_the_first_in_the_cache(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "My name is Aurelia. Please greet me and remember my name."}]
    first = client.chat.completions.create(messages=messages, **GREEDY)
    turn: Any = {"role": "assistant", "content": first.choices[0].message.content}
    second = client.chat.completions.create(messages=[*messages, turn, *QUESTION], **GREEDY)
    assert first.usage
    assert second.usage
    assert second.usage.prompt_tokens_details
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= first.usage.prompt_tokens


def test_logprobs(client: OpenAI) -> None:
    options = GREEDY | {"logprobs": True, "top_logprobs": 3}
    answer = client.chat.completions.create(messages=QUESTION, **options)
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    for token in logprobs.content:
        assert token.logprob == token.top_logprobs[0].logprob  # At temperature 0 the likeliest one is taken.
        assert len(token.top_logprobs) == 3
    assert "".join(token.token for token in logprobs.content) == answer.choices[0].message.content
    streamed = [
        token
        for chunk in client.chat.completions.create(messages=QUESTION, stream=True, **options)
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content or []
    ]
    assert [token.token for token in streamed] == [token.token for token in logprobs.content]


def test_biased_tokens(client: OpenAI) -> None:
    text = client.completions.create(model=MODEL, prompt=[30], echo=True, max_tokens=0).choices[0].text
    options = GREEDY | {"messages": QUESTION, "max_tokens": 1}
    assert client.chat.completions.create(logit_bias={"30": 100}, **options).choices[0].message.content == text
    plain = client.chat.completions.create(**options).choices[0].message.content
    assert plain != text
    banned: dict[str, int] = {str(token): -100 for token in range(49152) if token != 30}
    assert client.chat.completions.create(logit_bias=banned, **options).choices[0].message.content == text


def test_stop_texts(client: OpenAI) -> None:
    whole = client.chat.completions.create(messages=QUESTION, **GREEDY).choices[0].message.content or ""
    for stop in ("Paris", ["nothing", "Paris"]):
        answer = client.chat.completions.create(messages=QUESTION, stop=stop, **GREEDY).choices[0]
        assert answer.message.content == whole[: whole.index("Paris")]
        assert answer.finish_reason == "stop"


def test_the_limit_of_tokens(client: OpenAI) -> None:
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3, "max_tokens": None}):
        answer = client.chat.completions.create(messages=QUESTION, **GREEDY | limit)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage
        assert answer.usage.completion_tokens == 3


def test_null_is_the_default_and_unknown_fields_change_nothing(api: Api) -> None:
    fields = ("top_p", "top_k", "seed", "stop", "n", "logit_bias", "stream", "tools", "response_format", "logprobs")
    body = GREEDY | {"messages": QUESTION}
    plain = api.post("/v1/chat/completions", json=body).json()
    other = api.post(
        "/v1/chat/completions",
        json=body | dict.fromkeys(fields) | {"user": "me", "store": True, "metadata": {"a": "b"}, "of_tomorrow": 1},
    ).json()
    assert other["choices"] == plain["choices"]


def test_messages_in_their_forms(client: OpenAI) -> None:
    def part(text: str) -> dict[str, str]:
        return {"type": "text", "text": text}

    parts: Any = [
        {"role": "developer", "content": [part("You always "), part("help.")]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?"}],
        },
    ]
    plain: Any = [{"role": "system", "content": "You always help."}, *QUESTION]
    answers = [client.chat.completions.create(messages=messages, **GREEDY) for messages in (parts, plain)]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
WRONG: list[tuple[dict[str, Any], str, str | None]] = [
    ({"temperature": 9}, "temperature", None),
    ({"max_tokens": 0}, "max_tokens", None),
    ({"stop": [""]}, "stop", None),
    ({"logit_bias": {"Paris": 1}}, "logit_bias", None),
    ({"logit_bias": {"999999": 1}}, "logit_bias", None),
    ({"top_logprobs": 2}, "top_logprobs", None),
    ({"audio": {"voice": "alloy"}}, "audio", "unsupported_parameter"),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
    ({"messages": [{"role": "robot", "content": "Hello"}]}, "robot", None),
    ({"messages": [{"role": "user", "content": ""}]}, "empty", None),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "image_url",
        "unsupported_parameter",
    ),
    ({"messages": [{"role": "user", "content": "word " * 3000}]}, "context", "context_length_exceeded"),
    ({"chat_template_kwargs": {"a": "<|im_end|>"}}, "control token", None),
]


@pytest.mark.parametrize(("change", "words", "code"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_is_said(client: OpenAI, change: dict[str, Any], words: str, code: str | None) -> None:
    body = GREEDY | {"messages": QUESTION} | change
    with pytest.raises(openai.BadRequestError) as error:
        client.post("/chat/completions", body=body, cast_to=object)
    assert words in error.value.message
    assert error.value.code == code
    assert error.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "change", [{"messages": "Hello"}, {"messages": []}, {"temperature": "warm"}, {"n": 0}, {"stop": 3}]
)
def test_bodies_of_another_form(client: OpenAI, change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(openai.UnprocessableEntityError) as error:
        client.post("/chat/completions", body=GREEDY | {"messages": QUESTION} | change, cast_to=object)
    assert error.value.param == name
    assert name in error.value.message


def test_a_model_that_is_not_there(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(messages=QUESTION, model="gpt-99")
    assert error.value.code == "model_not_found"
    assert MODEL in error.value.message
