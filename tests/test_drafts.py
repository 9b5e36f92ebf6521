"""A small model that drafts for another one, in the engine: the same answers, its restarts, its errors, its names."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.engine.draft_model import DraftModel
from falcon_runtime.engine.program import Program
from falcon_runtime.engine.request import Request
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.errors import DraftUnusable, ModelDamaged
from falcon_runtime.fleet import Fleet
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.library import Model
from falcon_runtime.models.manifest import PROGRAM, read_manifest

from .engine.test_scheduler import run, tokens_of
from .served_app import wait_until
from .test_runtime import GREEDY, newest_worker
from .test_runtime import tokens_of as tokens_of_chunks

PROMPTS = ["A", "Once upon a time", "12 + 30 =", "the the the", "Desert and falcon, " * 3, "?", "def f(x):", "\n\n"]


@pytest.fixture(scope="module")
def runtime(small_model_slots: Path, small_draft: Path) -> Iterator[FalconRuntime]:
    with FalconRuntime(str(small_model_slots), draft=str(small_draft)) as runtime:
        runtime.load()
        yield runtime


@pytest.fixture(scope="module")
def expected(small_model_slots: Path) -> list[list[int]]:
    """The answers without a draft model."""
    with FalconRuntime(str(small_model_slots), draft="none") as runtime:
        return [tokens_of_chunks(list(runtime.generate(prompt, GREEDY))) for prompt in PROMPTS]


def test_two_programs_of_one_process_write_what_one_does(
    runtime: FalconRuntime, small_model_slots: Path, small_draft: Path, expected: list[list[int]]
) -> None:
    """Where drafting is said to cost nearly nothing, so that there is much of it."""
    program, draft = (Program(folder, read_manifest(folder), 2) for folder in (small_model_slots, small_draft))
    scheduler = Scheduler(program, (256,), Pace(16, 8), [1.0] * 16, DraftModel(draft, [0.01] * 16, (256,), "Small"))
    for i, prompt in enumerate(PROMPTS):
        scheduler.submit(Request(i, runtime.tokenize(prompt), GREEDY))
    steps = run(scheduler)
    assert [list(tokens_of(steps[i])) for i in range(len(PROMPTS))] == expected
    assert sum(steps[i][-1].stats.drafted_by_model for i in steps) > 20
    assert sum(steps[i][-1].stats.accepted_by_model for i in steps) > 0


def test_answers_are_those_without(runtime: FalconRuntime, expected: list[list[int]]) -> None:
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        answers = list(pool.map(lambda prompt: tokens_of_chunks(list(runtime.generate(prompt, GREEDY))), PROMPTS))
    assert answers == expected
    # How much was drafted depends on what was measured. With a seed the same text comes again all the same.
    seeded = SamplingParams(temperature=1, seed=5, max_new_tokens=24)
    first, again = (tokens_of_chunks(list(runtime.generate("A", seeded))) for _ in range(2))
    assert first == again


def test_it_is_called_by_its_name(runtime: FalconRuntime, small_model_slots: Path, small_draft: Path) -> None:
    title = read_manifest(small_draft).title
    assert runtime.draft == title
    assert runtime.draft_problem is None
    assert runtime.description.endswith(f" · {title} drafts")
    both = read_manifest(small_model_slots).memory_bytes + read_manifest(small_draft).draft_bytes
    assert runtime.memory_bytes == both


def test_an_engine_that_comes_back_has_it_too(runtime: FalconRuntime, small_draft: Path) -> None:
    worker = newest_worker()
    worker.kill()
    wait_until(lambda: runtime.status.state == "loading")
    wait_until(lambda: runtime.status.state == "ready")
    assert newest_worker().pid != worker.pid
    assert str(small_draft) in newest_worker().cmdline()
    assert runtime.draft
    assert len(tokens_of_chunks(list(runtime.generate("A", GREEDY)))) == 24


def test_one_of_other_tokens_is_refused(small_model: Path, starter_models_dir: Path) -> None:
    starter = str(starter_models_dir / STARTER.name)
    with FalconRuntime(str(small_model), draft=starter) as runtime, pytest.raises(DraftUnusable, match="cannot draft"):
        runtime.load()
    assert runtime.status.state == "failed"
    # A server answers all the same, and says why it is slower.
    with FalconRuntime(str(small_model), draft=starter, draft_required=False) as runtime:
        assert len(tokens_of_chunks(list(runtime.generate("A", GREEDY)))) == 24
        assert "cannot draft" in (runtime.draft_problem or "")
        assert runtime.draft is None


@pytest.mark.parametrize("told", [True, False], ids=["as the manifest says", "not as the manifest says"])
def test_a_damaged_one_is_left_out_unless_it_was_named(
    small_model: Path, small_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """Found by the engine that loads it, or before."""
    damaged = shutil.copytree(small_draft, tmp_path / "draft")
    content = b"This is no program."
    (damaged / PROGRAM).write_bytes(content)
    if told:
        facts = {"program_bytes": len(content), "program_sha256": sha256(content).hexdigest()}
        read_manifest(small_draft).model_copy(update=facts).save(damaged)
    with FalconRuntime(str(small_model), draft=str(damaged)) as runtime, pytest.raises(ModelDamaged, match="again"):
        runtime.load()
    automatic = Model("small", small_model, replace(STARTER, draft=str(damaged), title="Small"))
    monkeypatch.setattr("falcon_runtime.runtime.find_model", lambda *_: automatic)
    with FalconRuntime("small", draft="auto") as runtime:
        assert len(tokens_of_chunks(list(runtime.generate("A", GREEDY)))) == 24
        assert "onvert the model again" in (runtime.draft_problem or "")
        assert runtime.draft is None


def test_a_fleet_has_it_for_those_that_it_can_draft_for(
    small_model_slots: Path, small_draft: Path, starter_models_dir: Path, tmp_path: Path, expected: list[list[int]]
) -> None:
    shutil.copytree(small_model_slots, tmp_path / "small")
    shutil.copytree(starter_models_dir / STARTER.name, tmp_path / STARTER.name)

    def switch(name: str) -> None:
        fleet.switch(name)
        wait_until(lambda: fleet.current.name == name and not fleet.preparing)

    def answer() -> list[int]:
        with fleet.lease() as runtime:
            return tokens_of_chunks(list(runtime.generate(PROMPTS[1], GREEDY)))

    with Fleet("small", tmp_path, draft=str(small_draft)) as fleet:
        assert answer() == expected[1]
        title = fleet.current.draft
        switch(STARTER.name)
        assert len(answer()) == 24
        assert (fleet.current.draft, "cannot draft" in (fleet.current.draft_problem or "")) == (None, True)
        assert str(small_draft) not in newest_worker().cmdline()
        switch("small")
        assert answer() == expected[1]
        assert fleet.current.draft == title == read_manifest(small_draft).title
        assert str(small_draft) in newest_worker().cmdline()
