"""The starter model, really converted: it keeps its quality, it answers, and in fp32 it says what transformers says."""

import json
import math
import pydoc_data.topics
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from falcon_runtime import FalconRuntime, SamplingParams, Tools
from falcon_runtime.cli.perplexity import measure
from falcon_runtime.convert import convert
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.manifest import RecipeName, is_converted

from .kept import CONVERTER, cache_of, made_once

TEXT = pydoc_data.topics.topics["exceptions"] + pydoc_data.topics.topics["import"]
"""English prose that every Python has."""
WINDOW, WINDOWS = 256, 6
QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "What is 7 times 8?",
    "Translate 'good morning' into Spanish.",
    "Who wrote Romeo and Juliet?",
]


@pytest.fixture(scope="module")
def runtime(starter_models_dir: Path) -> Iterator[FalconRuntime]:
    with FalconRuntime(models_dir=starter_models_dir) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def reference(starter_gguf: Path) -> LlamaForCausalLM:
    """The dequantized GGUF in transformers, by its own reader."""
    return AutoModelForCausalLM.from_pretrained(
        starter_gguf.parent, gguf_file=starter_gguf.name, dtype=torch.float32
    ).eval()


def asked(runtime: FalconRuntime) -> list[dict[str, str]]:
    """The first question, as the page asks it."""
    return [{"role": "system", "content": runtime.defaults.system}, {"role": "user", "content": QUESTIONS[0]}]


def test_it_answers(runtime: FalconRuntime) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=24)
    for answer in (
        runtime.chat(asked(runtime), params),
        runtime.instruct(QUESTIONS[0], params=params),
    ):
        chunks = list(answer)
        assert "Paris" in "".join(chunk.text for chunk in chunks)


def test_an_answer_ends_with_an_end_token(runtime: FalconRuntime) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=200)
    last = list(runtime.chat(asked(runtime), params))[-1]
    assert last.finish_reason == "stop"
    assert last.stats.generated_tokens < 50


def test_the_end_of_a_text_ends_an_answer_too(runtime: FalconRuntime) -> None:
    end = 0  # <|endoftext|>, which the checkpoint does not name as an end.
    chunks = list(runtime.generate("Hello", SamplingParams(max_new_tokens=20, logit_bias={end: 100})))
    assert chunks[-1].finish_reason == "stop"
    assert "".join(chunk.text for chunk in chunks) == ""


def test_a_chat_is_read_only_once(runtime: FalconRuntime) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=24)
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    chunks = list(runtime.chat(messages, params))
    answer = "".join(chunk.text for chunk in chunks)
    messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": "And of Spain?"}]
    stats = list(runtime.chat(messages, params))[-1].stats
    # All of the first turn, but for the last token of the answer, which ended it and was never fed.
    assert stats.cached_tokens >= chunks[-1].stats.prompt_tokens + chunks[-1].stats.generated_tokens - 1


def test_functions_are_called(runtime: FalconRuntime) -> None:
    number = {"type": "integer", "minimum": 0, "maximum": 99}
    parameters = {"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"]}
    tool = {"type": "function", "function": {"name": "add", "parameters": parameters}}
    messages: list[dict[str, Any]] = [{"role": "user", "content": "What is 40 plus 2?"}]
    params = SamplingParams(temperature=0, max_new_tokens=60)
    answer = runtime.chat(messages, params, tools=Tools([tool], "required", parallel=False))
    message = answer.message()
    (call,) = message["tool_calls"]
    assert json.loads(call["function"]["arguments"]).keys() == {"a", "b"}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "42"}]
    chunks = list(runtime.chat([*messages, message, *results], params, tools=Tools([tool])))
    assert chunks[-1].stats.cached_tokens > len(answer.prompt)
    with pytest.raises(InvalidRequest, match="constraint"):
        runtime.chat(messages, SamplingParams(constraint={"choice": ["a"]}), tools=Tools([tool]))


@pytest.fixture(scope="module")
def reference_perplexity(request: pytest.FixtureRequest, runtime: FalconRuntime) -> float:
    """Kept in the user's cache: transformers takes minutes of a processor's time for it."""
    tokens = torch.tensor(runtime.tokenize(TEXT)[: WINDOW * WINDOWS]).view(WINDOWS, WINDOW)

    def find(file: Path) -> None:
        reference: LlamaForCausalLM = request.getfixturevalue("reference")
        with torch.no_grad():
            logits = reference(tokens).logits[:, :-1].log_softmax(-1)
        file.write_text(repr(math.exp(-logits.gather(-1, tokens[:, 1:, None]).mean().item())))

    read = sha256(tokens.numpy().tobytes()).hexdigest()
    return float(made_once(cache_of(*CONVERTER, Path(__file__)) / f"perplexity-{read}", find).read_text())


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_quantized_it_keeps_the_perplexity(starter_int8: Path, reference_perplexity: float, recipe: RecipeName) -> None:
    with FalconRuntime(f"{STARTER.name}:{recipe}", starter_int8.parent) as runtime:
        assert runtime.recipe == recipe
        found = measure(runtime, TEXT, WINDOW, WINDOWS)
    assert found.tokens == WINDOWS * (WINDOW - 1)
    assert found.perplexity <= 1.005 * reference_perplexity


@pytest.mark.slow
def test_fp32_says_what_transformers_says(models_cache: Path, reference: LlamaForCausalLM) -> None:
    folder = models_cache / f"{STARTER.name}-fp32"
    if not is_converted(folder):
        convert(STARTER.name, models_cache, recipe="fp32")
    with FalconRuntime(str(folder)) as runtime:
        for question in QUESTIONS:
            params = SamplingParams(temperature=0, frequency_penalty=0, max_new_tokens=64)
            chunks = list(runtime.instruct(question, system="", params=params))
            found = [token for chunk in chunks for token in chunk.token_ids]
            tokenizer = runtime._ready()[1].tokenizer
            messages = [{"role": "user", "content": question}]
            prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
            ids = prompt["input_ids"] if not isinstance(prompt, torch.Tensor) else prompt
            expected = reference.generate(ids, max_new_tokens=64, do_sample=False)[0, ids.shape[1] :].tolist()
            assert found == expected
