"""Guessing ahead: what is guessed, how far it pays, and that it changes nothing but the time."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import chisquare

from falcon_runtime.engine.request import Request
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.engine.speculation import Draft, Offer, Prices, PromptLookup, allot, cost, interpolate
from falcon_runtime.sampling import SamplingParams

from .fake_program import VOCABULARY, FakeProgram
from .test_scheduler import run, tokens_of

PACE = Pace(8, 8)
FREE = [1.0] * 64
"""Times of forwards where further rows cost nothing."""


def test_the_longest_match_is_continued() -> None:
    lookup = PromptLookup()
    #                   3-gram 1 2 3 -> 4    2-gram 2 3 -> 9 is later, but shorter
    assert lookup.propose([1, 2, 3, 4, 5, 2, 3, 9, 1, 2, 3], 3).tokens == (4, 5, 2)
    assert lookup.propose([1, 2, 3, 4, 5, 2, 3, 9, 1, 2, 3, 7, 2, 3], 2).tokens == (7, 2)
    assert lookup.propose([1, 2, 3, 4, 5, 2, 3, 9, 1, 2, 3, 7, 2, 3, 6], 2) == Draft()


def test_the_latest_of_equal_matches_is_continued() -> None:
    assert PromptLookup().propose([1, 2, 1, 3, 1], 1).tokens == (3,)


def test_a_loop_goes_on() -> None:
    assert PromptLookup().propose([8, 1, 2, 1, 2], 5).tokens == (1, 2, 1, 2, 1)
    assert PromptLookup().propose([5, 5], 3).tokens == (5, 5, 5)


@pytest.mark.parametrize("text", [[1], [1, 2, 3]])
def test_nothing_is_guessed_without_a_match(text: list[int]) -> None:
    assert PromptLookup().propose(text, 5) == Draft()


def test_confidence_follows_what_was_right() -> None:
    lookup, text = PromptLookup(), [1, 2, 3, 4, 1, 2, 3]
    before = lookup.propose(text, 2)
    lookup.learn(before, 2)
    better = lookup.propose(text, 2)
    assert before.confidence < better.confidence < 1
    for _ in range(100):
        lookup.learn(better, 0)
    assert lookup.propose(text, 2).confidence < 0.01
    # While none is verified, it is slowly forgotten, and tried again.
    for _ in range(200):
        lookup.learn(better.first(0), 0)
    assert lookup.propose(text, 2).confidence > 0.5


def allotted(offers: list[Offer], costs: list[float], decoding: int, drafting: Sequence[float] = ()) -> list[int]:
    return list(allot(offers, Prices(costs, drafting), decoding, decoding).counts)


def test_guesses_are_allotted_where_they_are_likeliest() -> None:
    offers = [draft.offer for draft in (Draft((1, 2, 3), 0.5, 1), Draft((4, 5, 6), 0.9, 3), Draft())]
    assert allotted(offers, FREE, 3) == [3, 3, 0]
    # From 3 rows, which bring 3 tokens, to 5: 0.9 + 0.81 more for a fifth more time. A sixth, 0.729, does not pay.
    steep = [1.0, 1.0, 1.0, 1.1, 1.2, 1.5, 1.9, 2.3, 2.7]
    assert allotted(offers, steep, 3) == [0, 2, 0]
    assert allotted(offers, [1.0, 2.0, 3.0, 4.0], 3) == [0, 0, 0]


def test_a_dear_row_on_the_way_to_cheap_ones_is_taken() -> None:
    # Kernels compute some numbers of rows together: the second costs what the eighth does.
    assert allotted([Offer(7, 0.9)], [1.0] + [1.5] * 7, 1) == [7]


def test_forwards_of_the_draft_model_are_counted() -> None:
    # 1 + 0.8 + 0.64 + 0.512 + 0.4096 tokens in 1.8 are more per time than any other number of them.
    assert allotted([Offer(7, 0.8, by_model=True)], FREE, 1, [0.2]) == [4]
    # Two share each forward. It takes twice as long, while the model's own takes as long as it did.
    assert allotted([Offer(7, 0.8, by_model=True)] * 2, FREE, 2, [0.2, 0.4]) == [2, 2]
    assert allotted([Offer(7, 0.8, by_model=True)], FREE, 1, [0.9]) == [0]


def test_costs_between_and_beyond_what_was_measured() -> None:
    costs = interpolate({2: 1.0, 4: 2.0, 6: 2.4})
    np.testing.assert_allclose(costs, [1.0, 1.0, 1.5, 2.0, 2.2, 2.4])
    assert cost(costs, 5) == pytest.approx(2.2)
    assert cost(costs, 12) == pytest.approx(4.8)


class Cycle(FakeProgram):
    """Says 1, 2, ..., 9, and again."""

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        return np.eye(VOCABULARY, dtype=np.float32)[text[-1] % 9 + 1]


class Noise(FakeProgram):
    """Says one of nine tokens, whatever came before: a guess is right one time in nine."""

    said = np.random.default_rng(0).integers(0, 9, 1000)

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        return np.eye(VOCABULARY, dtype=np.float32)[self.said[len(text)]]


def test_what_repeats_takes_few_forwards() -> None:
    program = Cycle()
    scheduler = Scheduler(program, (), PACE, FREE)
    scheduler.submit(Request(0, list(range(1, 10)), SamplingParams(temperature=0, max_new_tokens=50)))
    steps = run(scheduler)[0]
    assert tokens_of(steps) == tuple(i % 9 + 1 for i in range(9, 59))
    stats = steps[-1].stats
    assert stats.generated_tokens == 50
    assert stats.accepted_tokens >= 40
    assert len(program.batches) < 15
    # Each forward with tokens brings one that was not guessed.
    assert stats.accepted_tokens + sum(bool(step.token_ids) for step in steps) == 50


@pytest.mark.parametrize(("second_row", "most", "least"), [(1.02, 9, 0.9), (1.3, 0.2, 0)])
def test_guessing_goes_on_only_where_it_pays(second_row: float, most: float, least: float) -> None:
    program = Noise(context=500)
    scheduler = Scheduler(program, (), PACE, costs=[1.0, second_row, 2.0, 3.0])
    scheduler.submit(Request(0, [1, 2, 3], SamplingParams(temperature=0, max_new_tokens=400)))
    run(scheduler)
    late = [sum(batch) - 1 for batch in program.batches[200:]]
    assert least * len(late) <= sum(late) <= most * len(late)


def test_a_guess_needs_room_in_answer_and_context() -> None:
    for tokens, context in ((3, 64), (60, 16)):
        program = Cycle(context=context)
        scheduler = Scheduler(program, (), PACE, FREE)
        scheduler.submit(Request(0, list(range(1, 10)), SamplingParams(temperature=0, max_new_tokens=tokens)))
        steps = run(scheduler)[0]
        assert steps[-1].stats.generated_tokens == min(tokens, context - 9)
        assert steps[-1].finish_reason == "length"


def test_an_end_among_guesses_ends_the_answer() -> None:
    scheduler = Scheduler(Cycle(), (5,), PACE, FREE)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]
    scheduler.submit(Request(0, list(prompt), SamplingParams(temperature=0, max_new_tokens=20)))
    steps = run(scheduler)[0]
    assert tokens_of(steps) == (3, 4, 5)
    assert steps[-1].finish_reason == "stop"
    # What was guessed beyond the end is not in the cache: the conversation goes on right.
    scheduler.submit(Request(1, [*prompt, 3, 4, 5, 7], SamplingParams(temperature=0, max_new_tokens=2)))
    steps = run(scheduler)[1]
    assert tokens_of(steps) == (8, 9)
    assert steps[-1].stats.cached_tokens >= len(prompt) + 2


class Bigrams(FakeProgram):
    """A Markov chain over six tokens, so that prompt lookup often finds something and is often wrong."""

    table = np.random.default_rng(1).dirichlet([0.6] * 6, 6)

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        logits = np.full(VOCABULARY, -100, dtype=np.float32)
        logits[:6] = np.log(self.table[text[-1]])
        return logits


def sampled(seed: int, guesses: bool) -> tuple[list[int], int]:
    scheduler = Scheduler(Bigrams(context=3000), (), PACE, FREE if guesses else [1.0])
    params = SamplingParams(temperature=1, top_k=0, top_p=1, seed=seed, max_new_tokens=2500)
    scheduler.submit(Request(0, [0, 1, 2, 3], params))
    steps = run(scheduler, 3000)[0]
    return list(tokens_of(steps)), steps[-1].stats.accepted_tokens


def test_sampling_under_speculation_has_the_models_distribution() -> None:
    counts = np.zeros((6, 6))
    accepted = 0
    for seed in range(4):
        tokens, right = sampled(seed, guesses=True)
        accepted += right
        np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    assert accepted > 2000, "the test needs guesses that are right, and others"
    for row, expected in zip(counts, Bigrams.table, strict=True):
        # Each of six rows may be this far off once in 10,000 runs; the seeds are fixed.
        assert chisquare(row, expected * row.sum()).pvalue > 1e-4


def test_a_seed_gives_the_same_tokens_with_and_without_guessing() -> None:
    with_guesses, accepted = sampled(7, guesses=True)
    without, none = sampled(7, guesses=False)
    assert with_guesses == without
    assert accepted > 500
    assert none == 0
