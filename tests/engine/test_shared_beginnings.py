"""Prompts with the same beginning: it is computed once, whoever holds it, and changes no answer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from falcon_runtime.convert import convert
from falcon_runtime.engine.draft_model import DraftModel
from falcon_runtime.engine.program import Program
from falcon_runtime.engine.request import Request
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.engine.sequences import longest_prefix
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.sampling import SamplingParams

from ..kept import CONVERTER, SMALL_MODELS, cache_of, made_once
from .test_scheduler import END, GREEDY, FakeProgram, alone, run, tokens_of
from .test_speculation import FREE

SHARED = list(range(10, 34))
"""A beginning of 24 tokens: three chunks."""
PACE = Pace(8, 4)
LONGER = SamplingParams(temperature=0, max_new_tokens=20)


def scheduler_of(slots: int) -> tuple[FakeProgram, Scheduler]:
    program = FakeProgram(slots, max_tokens=8 * slots)
    return program, Scheduler(program, (END,), PACE)


def ask(scheduler: Scheduler, number: int, prompt: Sequence[int], tokens: int = 5) -> None:
    scheduler.submit(Request(number, prompt, SamplingParams(temperature=0, max_new_tokens=tokens)))


def cached_after(scheduler: Scheduler, number: int, prompt: Sequence[int]) -> int:
    """Asks, checks the answer, and tells how much of the prompt was not computed."""
    ask(scheduler, number, prompt)
    steps = run(scheduler)[number]
    assert tokens_of(steps) == alone(list(prompt), 5)
    return steps[-1].stats.cached_tokens


def test_what_an_idle_slot_holds_is_copied() -> None:
    program, scheduler = scheduler_of(3)
    assert cached_after(scheduler, 0, [*SHARED, 1, 2]) == 0
    first = list(program.cache[0])
    program.batches.clear()
    assert cached_after(scheduler, 1, [*SHARED, 3, 4]) == len(SHARED)
    assert sum(program.batches[0]) == 2
    # Nobody has lost anything: both conversations go on where they ended, the first one in its slot.
    assert program.cache[0] == first
    assert cached_after(scheduler, 2, [*SHARED, 1, 2, *alone([*SHARED, 1, 2], 5), 5]) == len(SHARED) + 2 + 4
    assert cached_after(scheduler, 3, [*SHARED, 3, 4, *alone([*SHARED, 3, 4], 5), 5]) == len(SHARED) + 2 + 4
    assert not program.cache[2]


def test_what_a_slot_holds_whose_answer_is_being_written_is_copied() -> None:
    _, scheduler = scheduler_of(2)
    ask(scheduler, 0, SHARED, 30)
    for _ in range(6):
        steps = list(scheduler.step())
    written = [*SHARED, *alone(SHARED, 5)]
    assert steps[0].stats.generated_tokens >= 4
    # Also of the answer so far, but for its last token, which has not been fed.
    prompt = [*written[: len(SHARED) + 3], 1, 2]
    ask(scheduler, 1, prompt)
    rest = run(scheduler)
    assert rest[1][-1].stats.cached_tokens == len(SHARED) + 3
    assert tokens_of(rest[1]) == alone(prompt, 5)
    assert alone(SHARED, 30)[-len(tokens_of(rest[0])) :] == tokens_of(rest[0])


def test_who_comes_at_the_same_time_waits_for_the_first_to_read_it() -> None:
    program, scheduler = scheduler_of(8)
    prompts = [[*SHARED, i, i] for i in range(8)]
    for i, prompt in enumerate(prompts):
        ask(scheduler, i, prompt)
    steps = run(scheduler)
    assert [sum(map(bool, batch)) for batch in program.batches[:3]] == [1, 1, 1]
    assert [steps[i][-1].stats.cached_tokens for i in range(8)] == [0, *[len(SHARED)] * 7]
    assert [tokens_of(steps[i]) for i in range(8)] == [alone(prompt, 5) for prompt in prompts]
    assert {step.stats.queue_position for i in range(8) for step in steps[i]} == {0}, "a slot is kept for each"
    # They can see how it goes on.
    assert [step.stats.prefilled_tokens for step in steps[7]][:3] == [0, 8, 16]


def test_if_the_first_leaves_the_next_goes_on_from_there() -> None:
    _, scheduler = scheduler_of(3)
    for i in range(3):
        ask(scheduler, i, [*SHARED, i, i])
    list(scheduler.step())
    assert scheduler.cancel(0)
    steps = run(scheduler)
    assert [steps[i][-1].stats.cached_tokens for i in (1, 2)] == [8, len(SHARED)]
    assert [tokens_of(steps[i]) for i in (1, 2)] == [alone([*SHARED, i, i], 5) for i in (1, 2)]


def test_one_who_waits_can_leave() -> None:
    _, scheduler = scheduler_of(2)
    for i in range(2):
        ask(scheduler, i, [*SHARED, i])
    list(scheduler.step())
    step = scheduler.cancel(1)
    assert step is not None
    assert step.finish_reason == "cancelled"
    assert list(run(scheduler)) == [0]


def test_others_neither_wait_nor_take_the_slot_that_is_kept() -> None:
    for slots, waits in ((2, True), (3, False)):
        _, scheduler = scheduler_of(slots)
        for i, prompt in enumerate(([*SHARED, 1], [*SHARED, 2], [7, 8, 9])):
            ask(scheduler, i, prompt)
        steps = list(scheduler.step())
        assert {step.request for step in steps if step.stats.prefilled_tokens} == ({0} if waits else {0, 2})
        assert max(step.stats.queue_position for step in steps) == waits
        later = run(scheduler)
        assert tokens_of(later[1]) == alone([*SHARED, 2], 5)
        assert tokens_of([step for step in (*steps, *later[2]) if step.request == 2]) == alone([7, 8, 9], 5)


def test_nobody_waits_for_a_few_tokens() -> None:
    _, scheduler = scheduler_of(2)
    for i in range(2):
        ask(scheduler, i, [1, 2, 3, *[40 + i] * 9])
    assert [step.stats.prefilled_tokens for step in scheduler.step()] == [4, 4]


def test_nobody_waits_for_one_who_is_behind() -> None:
    """One with a seed computes what a slot has already; who may take it from there is faster alone."""
    _, scheduler = scheduler_of(3)
    cached_after(scheduler, 0, SHARED[:20])
    scheduler.submit(Request(1, [*SHARED, 1], GREEDY.model_copy(update={"seed": 1})))
    list(scheduler.step())
    ask(scheduler, 2, [*SHARED, 2])
    assert {step.request: step.stats.prefilled_tokens for step in scheduler.step()} == {1: 8 + 4, 2: 20 + 4}
    assert tokens_of(run(scheduler)[2])[-4:] == alone([*SHARED, 2], 5)[-4:]


def test_a_seeded_request_neither_waits_nor_gets_a_copy() -> None:
    _, scheduler = scheduler_of(3)
    seeded = GREEDY.model_copy(update={"seed": 1})
    for i, params in enumerate((GREEDY, seeded)):
        scheduler.submit(Request(i, [*SHARED, i], params))
    assert [step.stats.prefilled_tokens for step in scheduler.step()] == [4, 4]
    run(scheduler)
    scheduler.submit(Request(2, [*SHARED, 2], seeded))
    assert run(scheduler)[2][-1].stats.cached_tokens == 0


def test_what_was_overwritten_is_not_copied() -> None:
    program, scheduler = scheduler_of(2)
    ask(scheduler, 0, [90], 60)
    list(scheduler.step())
    assert cached_while_busy(scheduler, 1, [*SHARED, 1]) == 0
    assert cached_while_busy(scheduler, 2, [*SHARED[:5], 2]) == 5
    assert scheduler.cancel(0)
    # The keys of more tokens are still in the memory, behind those of the other text.
    assert program.cache[1][14 : len(SHARED)] == SHARED[14:]
    assert cached_after(scheduler, 3, [*SHARED, 3]) == 5


def cached_while_busy(scheduler: Scheduler, number: int, prompt: Sequence[int]) -> int:
    """The same while request 0 goes on."""
    ask(scheduler, number, prompt)
    while True:
        for step in scheduler.step():
            if step.request == number and step.finish_reason:
                return step.stats.cached_tokens


def test_what_another_slot_has_too_is_no_loss() -> None:
    program, scheduler = scheduler_of(3)
    for i, prompt in enumerate(([*SHARED, 1], [*SHARED, 2], range(60, 72))):
        cached_after(scheduler, i, list(prompt))
    # It overwrites the older one of the long texts, whose beginning is in the other one, not the shorter text.
    assert cached_after(scheduler, 3, [5, 6]) == 0
    assert [cache[0] for cache in program.cache] == [5, SHARED[0], 60]
    assert cached_after(scheduler, 4, [*SHARED, 3]) == len(SHARED)


def test_an_empty_slot_is_taken_before_a_short_conversation_behind_a_long_prompt() -> None:
    """Copying the prompt costs less than what somebody would have to wait for again."""
    program = FakeProgram(3, context=1100, max_tokens=256)
    scheduler = Scheduler(program, (END,), Pace(200, 200))
    prompts = [[*(i % 90 for i in range(1000)), *[80 + visitor] * 12] for visitor in range(3)]
    assert [cached_after(scheduler, i, prompt) for i, prompt in enumerate(prompts)] == [0, 1000, 1000]
    for i, prompt in enumerate(prompts, 3):
        assert cached_after(scheduler, i, [*prompt, *alone(prompt, 5), 92]) == len(prompt) + 4


def test_a_draft_models_cache_is_copied_too() -> None:
    program, draft = FakeProgram(3, max_tokens=64), FakeProgram(3, max_tokens=64)
    model = DraftModel(draft, [0.01] * 64, (END,), "Small")
    scheduler = Scheduler(program, (END,), Pace(8, 4), FREE, model)
    cached_after(scheduler, 0, [*SHARED, 1, 2])
    draft.batches.clear()
    ask(scheduler, 1, [*SHARED, 3, 4], 20)
    steps = run(scheduler)[1]
    assert draft.cache[1][: len(SHARED) + 2] == [*SHARED, 3, 4]
    assert draft.batches[0] == [0, 2, 0]
    assert tokens_of(steps) == alone([*SHARED, 3, 4], 20)
    assert steps[-1].stats.accepted_by_model == steps[-1].stats.drafted_by_model > 5


def test_of_equal_beginnings_the_own_one_is_taken() -> None:
    caches = [[], [1, 2, 3], [1, 2, 4], [1, 2]]
    assert [longest_prefix([1, 2, 9], caches, own) for own in (1, 2, 3)] == [1, 2, 3]
    assert longest_prefix([1, 2, 4, 5], caches, 1) == 2


@pytest.fixture(scope="module")
def small_model_slots_int8(small_checkpoint: Path) -> Path:
    """As `small_model_slots`, in 8 bits."""
    return made_once(
        cache_of(*CONVERTER, *SMALL_MODELS, Path(__file__)) / "small-llama-int8",
        lambda folder: convert(str(small_checkpoint), folder.parent, "int8", slots=3, context=128, output=folder),
    )


@pytest.fixture(scope="module", params=["small_model_slots", "small_model_slots_int8"])
def program(request: pytest.FixtureRequest) -> Program:
    """With each kind of cache."""
    folder: Path = request.getfixturevalue(request.param)
    return Program(folder, read_manifest(folder), threads=2)


def forward(program: Program, slot: int, tokens: Sequence[int], start: int) -> np.ndarray:
    """Logits of all of the slot's new tokens."""
    batch: list[Sequence[int]] = [[], [], []]
    batch[slot] = tokens
    return program.forward(batch, [start] * 3, range(len(tokens))).copy()


@pytest.mark.parametrize("count", [1, 15, 63, 64, 65, 100])
def test_after_a_copied_beginning_logits_are_those_after_the_original(program: Program, count: int) -> None:
    texts = [[(7 * i + slot) % 250 for i in range(100)] for slot in range(3)]
    for slot, text in enumerate(texts):
        for start in (0, 50):  # Rows of logits are no more than 64.
            forward(program, slot, text[start : start + 50], start)
    new, third = [3, 1, 4, 1, 5, 9], forward(program, 2, [2, 6], 100)
    program.copy(0, 1, count)
    copied = forward(program, 1, new, count)
    expected = forward(program, 0, new, count)
    assert expected.std() > 0.1
    assert np.array_equal(copied, expected)
    # What happens to the original later changes nothing of the copy, and a slot beside them is as it was.
    forward(program, 0, [8] * 20, 0)
    assert np.array_equal(forward(program, 1, new, count), expected)
    assert np.array_equal(forward(program, 2, [2, 6], 100), third)


def test_answers_behind_a_copied_beginning_are_those_computed_afresh(program: Program) -> None:
    prompts = [[*(i * i % 251 for i in range(70)), *[visitor + 5] * (visitor + 1)] for visitor in range(6)]
    scheduler = Scheduler(program, (256,), Pace(32, 8))
    for i, prompt in enumerate(prompts[:3]):  # At once, and then one after the other.
        scheduler.submit(Request(i, prompt, LONGER))
    steps = run(scheduler)
    for i, prompt in enumerate(prompts[3:], 3):
        scheduler.submit(Request(i, prompt, LONGER))
        steps |= run(scheduler)
    assert [steps[i][-1].stats.cached_tokens for i in range(6)] == [0, 64, 64, 70, 70, 70]
    for i, prompt in enumerate(prompts):
        scheduler.submit(Request(i, prompt, LONGER.model_copy(update={"seed": 0})))
        afresh = run(scheduler)[i]
        assert afresh[-1].stats.cached_tokens == 0
        assert tokens_of(steps[i]) == tokens_of(afresh)
