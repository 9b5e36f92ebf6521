"""The scheduler on a fake program: what each sequence holds is known, so every request can be checked for mix-ups."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from falcon_runtime.engine.request import Request
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.engine.sequences import common_prefix, shares
from falcon_runtime.engine.step import Step
from falcon_runtime.sampling import SamplingParams

from .fake_program import VOCABULARY
from .fake_program import FakeProgram as AnyFakeProgram

END = 96
GREEDY = SamplingParams(temperature=0, max_new_tokens=5)


def successor(tokens: Sequence[int]) -> int:
    """The fake model's next token: it depends on every token before it and on their order."""
    value = 1
    for token in tokens:
        value = (value * 31 + token + 7) % 95
    return value


class FakeProgram(AnyFakeProgram):
    """Is quite sure of `successor`."""

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        logits = np.zeros(VOCABULARY, dtype=np.float32)
        logits[successor(text)] = 10
        return logits


def alone(prompt: list[int], count: int) -> tuple[int, ...]:
    """What the fake model answers to a prompt."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(successor(tokens))
    return tuple(tokens[len(prompt) :])


def run(scheduler: Scheduler, limit: int = 1000) -> dict[int, list[Step]]:
    steps: dict[int, list[Step]] = defaultdict(list)
    for _ in range(limit):
        if not scheduler.busy:
            return steps
        for step in scheduler.step():
            steps[step.request].append(step)
    raise AssertionError("the scheduler does not come to an end")


def tokens_of(steps: list[Step]) -> tuple[int, ...]:
    return tuple(token for step in steps for token in step.token_ids)


@pytest.mark.parametrize("slots", [1, 3])
def test_every_request_gets_its_own_answer(slots: int) -> None:
    scheduler = Scheduler(FakeProgram(slots), (END,), Pace(4, 4))
    prompts = [[i, *range(i, i + 3 * i + 1)] for i in range(1, 8)]
    for i, prompt in enumerate(prompts):
        scheduler.submit(Request(i, list(prompt), GREEDY))
    steps = run(scheduler)
    for i, prompt in enumerate(prompts):
        assert tokens_of(steps[i]) == alone(prompt, 5)
        assert steps[i][-1].finish_reason == "length"
        assert [step.finish_reason for step in steps[i][:-1]] == [None] * (len(steps[i]) - 1)
        assert steps[i][-1].stats.generated_tokens == 5


def test_a_long_prompt_does_not_hold_up_the_others() -> None:
    scheduler = Scheduler(FakeProgram(slots=2), (END,), Pace(alone=8, beside=3))
    scheduler.submit(Request(0, [1, 2], SamplingParams(temperature=0, max_new_tokens=8)))
    scheduler.submit(Request(1, list(range(20)), GREEDY))
    steps = run(scheduler)
    # The first forward reads both; what the short prompt leaves of its share, the long one has. After that 0 gets a
    # token with every forward, and so 1 is read in small slices, until 0 has ended.
    assert [step.stats.prefilled_tokens for step in steps[1]][:10] == [6, 9, 12, 15, 18, 20, 20, 20, 20, 20]
    assert [len(step.token_ids) for step in steps[0]] == [1] * 8
    assert tokens_of(steps[0]) == alone([1, 2], 8)
    assert tokens_of(steps[1]) == alone(list(range(20)), 5)


def test_prompts_share_what_is_read() -> None:
    scheduler = Scheduler(FakeProgram(slots=3, max_tokens=32), (END,), Pace(12, 12))
    for i, length in enumerate((30, 2, 30)):
        scheduler.submit(Request(i, [i + 1] * length, GREEDY))
    assert [step.stats.prefilled_tokens for step in scheduler.step()] == [5, 2, 5]


def test_only_what_is_new_is_read_again() -> None:
    program = FakeProgram()
    scheduler = Scheduler(program, (END,), Pace(16, 16))
    first = [5, 6, 7, 8, 9]
    scheduler.submit(Request(0, list(first), GREEDY))
    answer = tokens_of(run(scheduler)[0])
    longer = [*first, *answer, 11, 12]
    program.batches.clear()
    scheduler.submit(Request(1, list(longer), GREEDY))
    steps = run(scheduler)[1]
    # All of the first prompt and answer but its last token, which was never fed.
    assert steps[-1].stats.cached_tokens == len(first) + len(answer) - 1
    assert program.batches[0] == [3]
    assert tokens_of(steps) == alone(longer, 5)


def test_the_slot_with_the_longest_common_prefix_is_taken() -> None:
    scheduler = Scheduler(FakeProgram(slots=2), (END,), Pace(8, 8))
    scheduler.submit(Request(0, [1, 2, 3, 4], GREEDY))
    scheduler.submit(Request(1, [9, 8, 7, 6], GREEDY))
    run(scheduler)
    scheduler.submit(Request(2, [9, 8, 7, 5], GREEDY))
    steps = run(scheduler)[2]
    assert steps[-1].stats.cached_tokens == 3
    assert tokens_of(steps) == alone([9, 8, 7, 5], 5)


def test_a_prompt_again_prefills_its_last_chunk_as_before() -> None:
    program = FakeProgram()
    scheduler = Scheduler(program, (END,), Pace(4, 4))
    prompt = list(range(11))
    first_slices = []
    for i in range(3):
        program.batches.clear()
        scheduler.submit(Request(i, list(prompt), GREEDY))
        steps = run(scheduler)[i]
        assert tokens_of(steps) == alone(prompt, 5)
        first_slices.append(program.batches[:3])
    assert first_slices == [[[4], [4], [3]], [[3], [1], [1]], [[3], [1], [1]]]
    assert steps[-1].stats.cached_tokens == 8


def test_a_seeded_request_reads_everything() -> None:
    scheduler = Scheduler(FakeProgram(), (END,), Pace(8, 8))
    for i in range(2):
        scheduler.submit(Request(i, [1, 2, 3, 4], SamplingParams(seed=3, max_new_tokens=5)))
        steps = run(scheduler)[i]
    assert steps[-1].stats.cached_tokens == 0


def test_idle_slots_do_not_lose_what_they_hold() -> None:
    program = FakeProgram(slots=2, context=12)
    scheduler = Scheduler(program, (END,), Pace(8, 8))
    scheduler.submit(Request(0, [1, 2, 3], GREEDY))
    scheduler.submit(Request(1, [4, 5, 6, 7, 8, 9, 10], SamplingParams(temperature=0, max_new_tokens=50)))
    steps = run(scheduler)
    assert steps[1][-1].stats.generated_tokens == 5, "it must end where the context ends"
    # The one that idled, its answer of five tokens going on; the other with another end.
    for i, prompt, cached in ((2, [1, 2, 3, *alone([1, 2, 3], 5), 44], 7), (3, [4, 5, 6, 7, 8, 9, 10, 45], 7)):
        scheduler.submit(Request(i, list(prompt), GREEDY))
        steps = run(scheduler)
        assert program.cache[i - 2][: len(prompt)] == prompt
        assert steps[i][-1].stats.cached_tokens == cached
        assert tokens_of(steps[i]) == alone(prompt, min(5, 12 - len(prompt)))


def test_end_tokens_end_an_answer_and_belong_to_it() -> None:
    answer = alone([3, 1, 4], 5)
    scheduler = Scheduler(FakeProgram(), (answer[2],), Pace(8, 8))
    scheduler.submit(Request(0, [3, 1, 4], GREEDY))
    steps = run(scheduler)[0]
    assert tokens_of(steps) == answer[:3]
    assert steps[-1].finish_reason == "stop"


class Looping(AnyFakeProgram):
    """Says the token after the latest, up to 44, and then 40 again."""

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        return np.eye(VOCABULARY, dtype=np.float32)[40 if text[-1] == 44 else text[-1] + 1]


@pytest.mark.parametrize("costs", [(1.0,), (1.0,) * 64], ids=["one token at a time", "with guesses"])
def test_an_answer_that_loops_ends_and_frees_its_slot(costs: Sequence[float]) -> None:
    scheduler = Scheduler(Looping(context=400), (END,), Pace(8, 8), costs)
    # What the prompt repeats does not count: neither alone nor together with the answer.
    prompts = [[40, 41, 42, 43, 44] * 30, [37]]
    expected = [40 + i % 5 for i in range(65)]
    for i, prompt in enumerate(prompts):
        scheduler.submit(Request(i, list(prompt), SamplingParams(temperature=0, max_new_tokens=200)))
    steps = run(scheduler)
    assert tokens_of(steps[0]) == tuple(expected)
    assert tokens_of(steps[1]) == (38, 39, *expected)
    for i, count in ((0, 65), (1, 67)):
        assert steps[i][-1].finish_reason == "repetition"
        assert steps[i][-1].stats.generated_tokens == count
    assert (steps[1][-1].stats.accepted_tokens > 40) == (len(costs) > 1)


def test_a_loop_may_be_wanted() -> None:
    scheduler = Scheduler(Looping(context=400), (END,), Pace(8, 8))
    params = SamplingParams(temperature=0, max_new_tokens=200, stop_on_repetition=False)
    scheduler.submit(Request(0, [40], params))
    steps = run(scheduler)[0]
    assert (len(tokens_of(steps)), steps[-1].finish_reason) == (200, "length")


def test_end_tokens_are_not_penalised() -> None:
    """The prompt has the end of an earlier answer, and the model is surer of an end than of anything else."""
    scheduler = Scheduler(FakeProgram(), (END,), Pace(8, 8))
    params = SamplingParams(temperature=0, repetition_penalty=2, logit_bias={END: 11})
    scheduler.submit(Request(0, [3, END, 3], params))
    assert tokens_of(run(scheduler)[0]) == (END,)


def test_cancelling_one_touches_no_other() -> None:
    scheduler = Scheduler(FakeProgram(slots=2, max_tokens=16), (END,), Pace(4, 4))
    for i in range(4):
        first = scheduler.submit(Request(i, [i + 1] * 9, GREEDY))
    assert first.stats.queue_position == 2
    running = [step.request for step in scheduler.step() if step.stats.prefilled_tokens]
    assert running == [0, 1]
    for cancelled in (0, 3):  # One that is being read, one that waits.
        step = scheduler.cancel(cancelled)
        assert step is not None
        assert step.finish_reason == "cancelled"
    assert scheduler.cancel(0) is None
    steps = run(scheduler)
    assert tokens_of(steps[1]) == alone([2] * 9, 5)
    assert tokens_of(steps[2]) == alone([3] * 9, 5)
    assert not {0, 3} & set(steps)


def test_waiting_requests_are_told_their_place() -> None:
    scheduler = Scheduler(FakeProgram(), (END,), Pace(8, 8))
    places = [scheduler.submit(Request(i, [1, i], GREEDY)).stats.queue_position for i in range(3)]
    assert places == [0, 1, 2]
    steps = run(scheduler)
    assert [step.stats.queue_position for step in steps[2] if not step.stats.prefilled_tokens] == [2, 1]


def test_scores_are_the_log_probabilities_of_every_token_but_the_first() -> None:
    scheduler = Scheduler(FakeProgram(max_rows=3), (END,), Pace(8, 8))
    tokens = [1, *alone([1], 4), 50, 51]
    scheduler.submit(Request(0, tokens, None))
    (last,) = [step for step in run(scheduler)[0] if step.finish_reason]
    likely = 10 - np.log(np.exp(10) + VOCABULARY - 1)
    assert [score.token_id for score in last.scores] == tokens[1:]
    np.testing.assert_allclose([score.logprob for score in last.scores], [likely] * 4 + [likely - 10] * 2, atol=1e-5)


@pytest.mark.parametrize("max_rows", [1, 3, 16])
@pytest.mark.parametrize("others", [0, 2])
def test_a_prompt_is_scored_and_then_gone_on_with(max_rows: int, others: int) -> None:
    scheduler = Scheduler(FakeProgram(max_rows=3 * max_rows), (END,), Pace(8, 8))
    tokens = [1, *alone([1], 4), 50, 51]
    scored = SamplingParams(temperature=0, max_new_tokens=6, prompt_logprobs=2)
    for number in range(others):
        scheduler.submit(Request(1 + number, [7, number, 3], GREEDY))
    scheduler.submit(Request(0, tokens, scored))
    steps = run(scheduler)[0]
    assert tokens_of(steps) == alone(tokens, 6)
    told = [step for step in steps if step.scores]
    assert len(told) == 1  # Once, with the first tokens that follow.
    assert told[0].token_ids
    assert [score.token_id for score in told[0].scores] == tokens[1:]
    assert [score.top[0][0] for score in told[0].scores] == [successor(tokens[:i]) for i in range(1, len(tokens))]


def test_common_prefix() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([], [1]) == 0
    assert common_prefix([1, 2], [1, 2, 3]) == 2


def test_shares_are_equal_but_for_what_is_not_needed() -> None:
    assert shares({"a": 30, "b": 2, "c": 30}, 12) == {"b": 2, "a": 5, "c": 5}
    assert shares({"a": 3, "b": 4}, 1) == {"a": 1, "b": 1}
    assert shares({}, 5) == {}
