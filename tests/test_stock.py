"""Somebody else's program in daily use: the runtime, the command line and the HTTP API."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from starlette.testclient import TestClient
from tokenizers import Tokenizer

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.errors import InvalidRequest, TokenizerError, UnsupportedProgram
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
from falcon_runtime.server import create_app
from falcon_runtime.server.settings import ServerSettings
from falcon_runtime.text.well_known import WELL_KNOWN

from .command_line import Call
from .stock_programs import copied, patched, stock_program


def text_of(generation: Generation) -> str:
    return "".join(chunk.text for chunk in generation)


GREEDY = SamplingParams(temperature=0, max_new_tokens=12)


def test_it_answers_queues_and_goes_on_with_what_it_has_read() -> None:
    with FalconRuntime(str(stock_program("exporter"))) as runtime, ThreadPoolExecutor(3) as threads:
        prompts = ["One thing", "Another thing", "A third"]
        alone = [text_of(runtime.generate(prompt, GREEDY)) for prompt in prompts]
        assert list(threads.map(lambda prompt: text_of(runtime.generate(prompt, GREEDY)), prompts)) == alone
        assert runtime.description == "stock · 128 tokens of context"
        question = [{"role": "user", "content": "Hello"}]
        *_, first = runtime.chat(question, GREEDY)
        answer = text_of(runtime.chat(question, GREEDY))
        longer = [*question, {"role": "assistant", "content": answer}, {"role": "user", "content": "And?"}]
        *_, second = runtime.chat(longer, GREEDY)
        assert second.stats.cached_tokens > first.stats.prompt_tokens
        again = runtime.chat(longer, GREEDY.model_copy(update={"seed": 1}))  # A seed reads all of it anew.
        assert text_of(again) == text_of(runtime.chat(longer, GREEDY))
        assert len(runtime.score(runtime.tokenize("Hello there"))) == 10


def test_without_a_chat_template_one_can_be_named(tmp_path: Path) -> None:
    folder = copied("exporter", tmp_path / "model")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    question = [{"role": "user", "content": "Hello"}]
    with FalconRuntime(str(folder)) as runtime:
        assert text_of(runtime.generate("Hello", GREEDY))
        with pytest.raises(InvalidRequest, match=r"no chat template.*--chat-template.*phi3 would fit its"):
            runtime.chat(question, GREEDY)
        assert runtime.borrowed_template
        assert "phi3" in runtime.borrowed_template.fitting
        runtime.borrowed_template.choose("phi3")
        chosen = text_of(runtime.chat(question, GREEDY))
        assert runtime.borrowed_template.stops == ("<|end|>",)
    with FalconRuntime(str(folder), chat_template="phi3") as runtime:
        chunks = list(runtime.chat(question, GREEDY))
        assert chunks[-1].stats.prompt_tokens == len("?\nHello?\n?\n")
        assert "".join(chunk.text for chunk in chunks) == chosen
    with FalconRuntime(str(folder), chat_template="chatml") as runtime:
        with pytest.raises(TokenizerError, match="phi3"):
            runtime.load()
        assert runtime.engine_pid
        assert not psutil.pid_exists(runtime.engine_pid), "an engine that nobody could use"
        assert runtime.status.state == "failed"


def test_the_end_of_a_turn_ends_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a template that was chosen, also where the program does not know that token as an end."""
    folder = copied("exporter", tmp_path / "model")
    (folder / "tokenizer_config.json").unlink()
    (folder / "chat_template.jinja").unlink()
    monkeypatch.setitem(WELL_KNOWN, "phi3", replace(WELL_KNOWN["phi3"], tokens=("<|end|>", "<|user|>")))
    turn = Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("<|user|>")
    forced = GREEDY.model_copy(update={"logit_bias": {turn: 100.0}})
    with FalconRuntime(str(folder), chat_template="phi3") as runtime:
        *_, last = runtime.chat([{"role": "user", "content": "Hello"}], forced)
        assert (last.finish_reason, last.stats.generated_tokens) == ("stop", 0)
        *_, last = runtime.generate("Hello", forced)
        assert last.finish_reason != "stop"


def test_what_cannot_run_is_a_sentence_and_not_the_end_of_the_engine(tmp_path: Path) -> None:
    folder = patched("exporter", tmp_path / "model", b"llama::custom_sdpa", b"llama::custom_sdpx")
    with FalconRuntime(str(folder)) as runtime, pytest.raises(UnsupportedProgram, match="custom_sdpx"):
        runtime.load()
    with (
        FalconRuntime(str(stock_program("pictures"))) as runtime,
        pytest.raises(UnsupportedProgram, match="no language"),
    ):
        runtime.load()


def test_inspect_tells_what_is_in_a_program(call: Call, tmp_path: Path) -> None:
    done = call("inspect", str(stock_program("exporter")), models_dir=tmp_path)
    assert done.returncode == 0
    for words in (
        "forward(int64 [1, 63] at most, int64 [1]) -> float32 [1, 320]",
        "llama::update_cache.out",
        "XnnpackBackend",
        "get_max_seq_len 64",
        "128 tokens in each of 1 slot",
        "state        can run",
    ):
        assert words in done.stdout
    copied("pictures", tmp_path / "pictures")
    done = call("inspect", "pictures", "--json", models_dir=tmp_path)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert facts["methods"][0]["inputs"][0]["sizes"] == [1, 3, 4, 4]
    assert "no language model" in facts["problems"][0]
    listed = call("models", models_dir=tmp_path).stdout
    assert f"{'pictures':26}skipped" in listed


def test_completions_come_from_it(tmp_path: Path) -> None:
    copied("exporter", tmp_path / "small_llama")
    with Fleet("small_llama", tmp_path) as fleet, TestClient(create_app(fleet, ServerSettings())) as client:
        asked = {"model": "small_llama", "prompt": "Hello", "max_tokens": 5, "temperature": 0, "logprobs": 2}
        answer = client.post("/v1/completions", json=asked).json()
        assert answer["usage"]["completion_tokens"] == 5
        assert len(answer["choices"][0]["logprobs"]["top_logprobs"]) == 5
        (model,) = client.get("/v1/models").json()["data"]
        assert (model["id"], model["max_model_len"], model["slots"]) == ("small_llama", 128, 1)
