"""EleutherAI's lm-evaluation-harness, which finds out what a model is worth by how likely it finds texts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from falcon_runtime import FalconRuntime, SamplingParams

from .conftest import MODEL, Api

Evaluate = Callable[[str, dict[str, Any]], list[dict[str, Any]]]
CAPITALS = {"France": "Paris", "Italy": "Rome", "Germany": "Berlin", "Spain": "Madrid"}
ROWS = [
    {"question": f"The capital of {country} is", "choices": list(CAPITALS.values()), "answer": city}
    for country, city in CAPITALS.items()
]
CHOOSE = {
    "task": "choose_capitals",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{choices.index(answer)}}",
}
WRITE = {
    "task": "write_capitals",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16, "do_sample": False},
}


@pytest.fixture(scope="module")
def runtime(starter_models_dir: Path) -> Iterator[FalconRuntime]:
    with FalconRuntime(models_dir=starter_models_dir) as runtime:
        yield runtime


@pytest.fixture
def evaluate(api: Api, starter_models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """What the harness notes of each row."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    import datasets  # They take seconds.
    import lm_eval
    from lm_eval.tasks import TaskManager

    def rows(**_: Any) -> dict[str, Any]:
        return {"test": datasets.Dataset.from_list(ROWS)}

    def evaluate(model: str, task: dict[str, Any]) -> list[dict[str, Any]]:
        chat = "chat" in model
        arguments = {"base_url": f"{api.url}/v1/{'chat/' * chat}completions", "model": MODEL}
        done = lm_eval.simple_evaluate(
            model,
            model_args=arguments | ({} if chat else {"tokenizer": str(starter_models_dir / MODEL)}),
            tasks=[task | {"custom_dataset": rows, "test_split": "test"}],
            task_manager=TaskManager(include_defaults=False),
            batch_size=1 if chat else 3,
            apply_chat_template=chat,
            bootstrap_iters=0,
        )
        samples: list[dict[str, Any]] = done["samples"][task["task"]]
        assert len(samples) == len(ROWS)
        return samples

    return evaluate


def test_log_likelihoods_are_ours(evaluate: Evaluate, runtime: FalconRuntime) -> None:
    samples = evaluate("local-completions", CHOOSE)
    for sample in samples:
        for (context, text), ((score, greedy),) in zip(sample["arguments"], sample["resps"], strict=True):
            begins = len(runtime.tokenize(context))
            assert score == pytest.approx(sum(runtime.score(runtime.tokenize(context + text))[begins - 1 :]), abs=1e-3)
            params = SamplingParams(temperature=0, frequency_penalty=0, max_new_tokens=1)
            likeliest = "".join(chunk.text for chunk in runtime.generate(context, params))
            assert greedy == (likeliest == text)
    assert sum(sample["acc"] for sample in samples) >= 3


@pytest.mark.parametrize("model", ["local-completions", "local-chat-completions"])
def test_texts_are_written(evaluate: Evaluate, model: str) -> None:
    for sample in evaluate(model, WRITE):
        ((text,),) = sample["resps"]
        assert text
        assert "\n" not in text
