"""`/v1/completions`, asked by OpenAI's client."""

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from falcon_runtime import FalconRuntime

from .conftest import MODEL, Api

GREEDY: Any = {"model": MODEL, "temperature": 0}
TEXT = "The cat sat on the mat, and the dog"


@pytest.fixture(scope="module")
def runtime(starter_models_dir: Path) -> Any:
    with FalconRuntime(models_dir=starter_models_dir) as runtime:
        yield runtime


def test_a_text_goes_on(client: OpenAI, runtime: FalconRuntime) -> None:
    completion = client.completions.create(prompt="1, 2, 3, 4, 5,", max_tokens=8, **GREEDY)
    assert completion.choices[0].text.startswith(" 6, 7, 8")
    assert completion.usage
    assert completion.usage.completion_tokens == 8
    tokens = runtime.tokenize("1, 2, 3, 4, 5,")
    assert (
        client.completions.create(prompt=tokens, max_tokens=8, **GREEDY).choices[0].text == completion.choices[0].text
    )


def test_sixteen_tokens_unless_told(client: OpenAI) -> None:
    completion = client.completions.create(prompt="1, 2, 3, 4, 5,", **GREEDY)
    assert completion.usage
    assert completion.usage.completion_tokens == 16
    assert completion.choices[0].finish_reason == "length"


def test_several_prompts(client: OpenAI) -> None:
    prompts = ["1, 2, 3, 4, 5,", "a, b, c, d, e,"]
    together = client.completions.create(prompt=prompts, max_tokens=6, n=2, seed=1, model=MODEL, temperature=1)
    assert [choice.index for choice in together.choices] == [0, 1, 2, 3]
    for i, prompt in enumerate(prompts):
        alone = client.completions.create(prompt=prompt, max_tokens=6, n=2, seed=1, model=MODEL, temperature=1)
        assert [choice.text for choice in alone.choices] == [
            choice.text for choice in together.choices[2 * i : 2 * i + 2]
        ]


def test_a_stream_is_the_same_text(client: OpenAI) -> None:
    for echo in (False, True):
        options: Any = GREEDY | {"prompt": TEXT, "max_tokens": 12, "echo": echo, "logprobs": 1}
        whole = client.completions.create(**options).choices[0]
        parts = [chunk.choices[0] for chunk in client.completions.create(stream=True, **options)]
        assert "".join(part.text for part in parts) == whole.text
        assert [part.finish_reason for part in parts][-1] == whole.finish_reason
        assert whole.logprobs
        tokens = [token for part in parts if part.logprobs for token in part.logprobs.tokens or []]
        offsets = [offset for part in parts if part.logprobs for offset in part.logprobs.text_offset or []]
        assert tokens == whole.logprobs.tokens
        assert offsets == whole.logprobs.text_offset


@pytest.mark.parametrize("wanted", [0, 1])
def test_the_log_probabilities_of_a_prompt(client: OpenAI, runtime: FalconRuntime, wanted: int) -> None:
    """What evaluation harnesses ask for: how likely a given text is."""
    tokens = runtime.tokenize(TEXT)
    options: Any = GREEDY | {"max_tokens": wanted, "echo": True, "logprobs": 1, "seed": 1}
    completion = client.completions.create(prompt=tokens, **options).choices[0]
    assert completion.logprobs
    assert completion.logprobs.token_logprobs
    assert completion.logprobs.top_logprobs
    assert completion.logprobs.tokens
    assert "".join(completion.logprobs.tokens[: len(tokens)]) == TEXT
    assert len(completion.logprobs.tokens) == len(tokens) + wanted
    scores = completion.logprobs.token_logprobs[: len(tokens)]
    assert scores[0] is None
    assert scores[1:] == pytest.approx(runtime.score(tokens), abs=1e-3)
    for score, top in zip(scores[1:], completion.logprobs.top_logprobs[1 : len(tokens)], strict=True):
        assert max(top.values()) >= score
    assert completion.text.startswith(TEXT)


def test_echo_alone(client: OpenAI) -> None:
    completion = client.completions.create(prompt=TEXT, echo=True, max_tokens=0, **GREEDY).choices[0]
    assert completion.text == TEXT
    assert completion.logprobs is None
    used = client.completions.create(prompt=TEXT, echo=True, max_tokens=0, **GREEDY).usage
    assert used
    assert used.completion_tokens == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"suffix": "the end"}, "suffix"),
        ({"best_of": 4}, "best_of"),
        ({"prompt": ""}, "empty"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [10**9]}, "1000000000"),
        ({"prompt": "word " * 3000}, "context"),
        ({"prompt": [""] * 100_000, "n": 16}, "not for 1,600,000"),
    ],
)
def test_what_cannot_be_is_said(client: OpenAI, change: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.completions.create(**GREEDY | {"prompt": TEXT} | change)


def test_numbers_beyond_all_that_there_is(api: Api) -> None:
    """The engine takes no harm: the same one answers what is asked next."""
    for more in ({"top_k": 10**30}, {"seed": 10**30}):
        answer = api.post("/v1/completions", json=GREEDY | {"prompt": TEXT, "max_tokens": 2} | more)
        assert answer.status_code == 200, answer.text
    for change in (
        {"temperature": 1e300},
        {"top_k": -5},
        {"logit_bias": {str(10**30): 1}},
        {"n": 10**30},
        {"max_tokens": 10**30},
    ):
        answer = api.post("/v1/completions", json=GREEDY | {"prompt": TEXT, "max_tokens": 2} | change)
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["error"]["message"]


def test_what_asks_for_nothing_is_taken(api: Api) -> None:
    body = GREEDY | {"prompt": TEXT, "suffix": None, "best_of": 1, "user": "me"}
    assert api.post("/v1/completions", json=body).status_code == 200
