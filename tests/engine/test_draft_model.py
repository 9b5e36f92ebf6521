"""A second model that drafts: it changes nothing but the time, follows the texts, and is left out where it does not
pay."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import chisquare

from falcon_runtime.engine.draft_model import DraftModel
from falcon_runtime.engine.request import Request
from falcon_runtime.engine.sampler import Sampler
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.engine.step import Step
from falcon_runtime.sampling import SamplingParams

from .fake_program import VOCABULARY, FakeProgram
from .test_scheduler import END, GREEDY, alone, run, tokens_of
from .test_scheduler import FakeProgram as Successor
from .test_speculation import FREE, Bigrams, Cycle, Noise

PACE = Pace(8, 8)
CHEAP = [0.01] * 64
"""Times of a draft model's forwards where drafting costs nearly nothing."""
OPTIONS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=1, top_k=0, top_p=1, seed=1),
    SamplingParams(temperature=0.7, top_k=5, top_p=0.9, min_p=0.05, seed=2, logprobs=3),
    SamplingParams(temperature=1.5, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.5, seed=3),
    SamplingParams(temperature=1, logit_bias={5: 3.0, 7: -100.0}, seed=4),
]


class Varied(FakeProgram):
    """Its logits depend on the last three tokens, so that the text hardly repeats itself; with `noise` it is another
    model that mostly agrees."""

    noise = 0.0

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        logits = np.random.default_rng([7, *text[-3:]]).normal(size=VOCABULARY) * 3
        other = np.random.default_rng([8, *text[-3:]]).normal(size=VOCABULARY)
        return (logits + self.noise * other).astype(np.float32)


class Similar(Varied):
    noise = 1.0


def with_draft(
    program: FakeProgram, draft: FakeProgram, costs: Sequence[float] = CHEAP, pace: Pace = PACE
) -> Scheduler:
    return Scheduler(program, (END,), pace, FREE, DraftModel(draft, costs, (END,), "Small"))


def answer(scheduler: Scheduler, prompt: Sequence[int], params: SamplingParams, number: int = 0) -> list[Step]:
    scheduler.submit(Request(number, list(prompt), params))
    return run(scheduler, 3000)[number]


def long(params: SamplingParams, tokens: int = 150) -> SamplingParams:
    return params.model_copy(update={"max_new_tokens": tokens, "stop_on_repetition": False})


@pytest.mark.parametrize("params", OPTIONS)
def test_whatever_the_options_the_text_is_that_without_a_draft_model(params: SamplingParams) -> None:
    plain = answer(Scheduler(Varied(context=256), (END,), Pace(8, 8)), [1, 2, 3], long(params))
    drafted = answer(with_draft(Varied(context=256), Similar(context=256)), [1, 2, 3], long(params))
    assert tokens_of(drafted) == tokens_of(plain)
    assert [token for step in drafted for token in step.logprobs] == [t for step in plain for t in step.logprobs]
    assert drafted[-1].finish_reason == plain[-1].finish_reason
    stats = drafted[-1].stats
    assert 0 < stats.accepted_by_model < stats.drafted_by_model
    assert stats.draft_model == "Small"


@pytest.mark.parametrize("params", OPTIONS)
def test_a_model_that_drafts_for_itself_is_always_right(params: SamplingParams) -> None:
    stats = answer(with_draft(Varied(context=256), Varied(context=256)), [1, 2, 3], long(params))[-1].stats
    assert stats.accepted_by_model == stats.drafted_by_model > stats.generated_tokens // 2


def test_it_drafts_for_all_in_one_forward_each() -> None:
    program, draft = (Successor(3, max_tokens=64, max_rows=32) for _ in range(2))
    scheduler = with_draft(program, draft)
    prompts = [[i, *range(i, i + 3 * i + 1)] for i in range(1, 7)]
    for i, prompt in enumerate(prompts):
        scheduler.submit(Request(i, list(prompt), SamplingParams(temperature=0, max_new_tokens=20)))
    steps = run(scheduler)
    for i, prompt in enumerate(prompts):
        assert tokens_of(steps[i]) == alone(prompt, 20)
    assert max(sum(bool(part) for part in batch) for batch in draft.batches) == 3
    assert sum(sum(map(bool, batch)) for batch in program.batches) < 6 * 20 / 2, "several tokens a forward"


class AnotherBigrams(Bigrams):
    """Another distribution over the same tokens."""

    table = np.random.default_rng(5).dirichlet([1.0] * 6, 6)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=1, top_k=0, top_p=1),
        SamplingParams(temperature=1.4, top_k=5, top_p=0.95, min_p=0.05, logit_bias={2: 0.7}),
    ],
)
def test_sampling_has_the_models_distribution(params: SamplingParams) -> None:
    counts = np.zeros((6, 6))
    accepted = drafted = 0
    for seed in range(10):
        # Of two drafted tokens at a time, the first is verified often enough.
        scheduler = with_draft(Bigrams(context=600, max_rows=3), AnotherBigrams(context=600))
        steps = answer(scheduler, [0, 1, 2, 3], long(params, 500).model_copy(update={"seed": seed}))
        tokens, stats = tokens_of(steps), steps[-1].stats
        np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
        accepted, drafted = accepted + stats.accepted_by_model, drafted + stats.drafted_by_model
    assert 300 < accepted < drafted - 300, "the test needs drafts that are right, and others"
    for last, row in enumerate(counts):
        expected = distribution(Bigrams().next_logits([last]), params)
        assert not row[expected == 0].any()
        # Each row may be this far off once in 10,000 runs; the seeds are fixed.
        assert chisquare(row[expected > 0], expected[expected > 0] * row.sum()).pvalue > 1e-4


def distribution(logits: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Probabilities [6] by the definition of each option."""
    logits = logits[:6] + np.array([params.logit_bias.get(i, 0) for i in range(6)])
    weights = np.exp((logits - logits.max()) / params.temperature)
    order = np.argsort(-weights)[: params.top_k or 6]
    weights = np.where(np.isin(np.arange(6), order), weights, 0)
    before = np.cumsum(weights[order]) - weights[order]
    kept = order[before < params.top_p * weights.sum()]
    weights = np.where(np.isin(np.arange(6), kept), weights, 0)
    weights = np.where(weights < params.min_p * weights.max(), 0, weights)
    return weights / weights.sum()


def test_a_useless_one_falls_silent() -> None:
    class Wrong(Noise):
        said = (Noise.said + 1) % 9

    program, draft = Noise(context=500), Wrong(context=500)
    scheduler = Scheduler(program, (END,), Pace(8, 8), [1.0, 1.3, 1.6, 1.9], DraftModel(draft, [0.2], (END,)))
    steps = answer(scheduler, [1, 2, 3], long(GREEDY, 400))
    assert steps[-1].stats.accepted_by_model == 0
    assert steps[-1].stats.drafted_by_model - steps[100].stats.drafted_by_model < 300 * 0.1
    # What was learned from some texts is known of the next one, whose prompt it does not even read.
    for i in range(1, 9):
        answer(scheduler, [1, 2, 3 + i], long(GREEDY, 400), i)
    draft.batches.clear()
    answer(scheduler, [4] * 50, long(GREEDY, 5), 9)
    assert not draft.batches


def test_one_that_is_as_slow_as_the_model_is_not_asked() -> None:
    draft = Varied(context=256)
    steps = answer(with_draft(Varied(context=256), draft, costs=[1.0]), [1, 2, 3], long(GREEDY))
    assert steps[-1].stats.drafted_by_model == 0
    assert steps[-1].stats.draft_model == ""
    assert not draft.batches


def test_what_the_text_repeats_is_copied_for_nothing() -> None:
    draft = Cycle(context=256)
    stats = answer(with_draft(Cycle(context=256), draft, [0.3] * 64), [1, 2, 3], long(GREEDY))[-1].stats
    assert stats.accepted_tokens - stats.accepted_by_model > stats.accepted_by_model > 0


def test_a_cache_that_is_behind_catches_up_at_the_pace_of_prompts() -> None:
    draft = Varied(context=128)
    scheduler = with_draft(Varied(context=128), draft, pace=Pace(alone=6, beside=4))
    prompt = list(range(30))
    answer(scheduler, prompt, SamplingParams(temperature=0, max_new_tokens=1))
    assert not draft.batches, "of one token nothing can be drafted"
    # The model has the prompt in its cache; the draft model has all to read, and drafts when it has.
    steps = answer(scheduler, [*prompt, 50, 51], long(GREEDY, 50), 1)
    assert steps[-1].stats.cached_tokens == 30
    assert steps[-1].stats.accepted_by_model == steps[-1].stats.drafted_by_model > 20
    assert max(map(sum, draft.batches)) <= 6
    assert draft.cache[0][:32] == [*prompt, 50, 51]


def test_a_prompt_is_read_by_both_chunk_by_chunk() -> None:
    program, draft = Successor(), Successor()
    scheduler = with_draft(program, draft, pace=Pace(alone=5, beside=2))
    answer(scheduler, list(range(14)), GREEDY)
    assert program.batches[:3] == draft.batches[:3] == [[5], [5], [4]]
    # Of the next turn only what is new: after the prompt's 14 tokens both fed some of the answer's five.
    longer = [*range(14), *alone(list(range(14)), 5), 60, 61]
    known = len(draft.cache[0])
    draft.batches.clear()
    assert tokens_of(answer(scheduler, longer, GREEDY, 1)) == alone(longer, 5)
    assert known > 14
    assert draft.batches[0][0] <= len(longer) - 14


def test_fewer_slots_and_a_shorter_context_have_fewer_drafts() -> None:
    program, draft = Successor(2, context=64), Successor(1, context=20)
    scheduler = with_draft(program, draft)
    prompts = [[1, 2, 3], [4, 5, 6]]
    for i, prompt in enumerate(prompts):
        scheduler.submit(Request(i, list(prompt), SamplingParams(temperature=0, max_new_tokens=40)))
    steps = run(scheduler)
    for i, prompt in enumerate(prompts):
        assert tokens_of(steps[i]) == alone(prompt, 40)
    assert 10 < steps[0][-1].stats.drafted_by_model <= 20
    assert steps[1][-1].stats.drafted_by_model == 0
    assert len(draft.cache[0]) <= 20


def test_a_cancel_in_the_midst_leaves_a_cache_that_serves_the_next() -> None:
    scheduler = with_draft(Successor(2), Successor(2))
    for i in range(2):
        scheduler.submit(Request(i, [i + 1] * 9, SamplingParams(temperature=0, max_new_tokens=40)))
    for _ in range(4):
        steps = list(scheduler.step())
    assert all(step.stats.drafted_by_model for step in steps)
    assert scheduler.cancel(0)
    scheduler.submit(Request(2, [1, 1, 1, 8, 8], SamplingParams(temperature=0, max_new_tokens=20)))
    later = run(scheduler)
    assert tokens_of(later[2]) == alone([1, 1, 1, 8, 8], 20)
    assert alone([2] * 9, 40)[-len(tokens_of(later[1])) :] == tokens_of(later[1])
    assert later[2][-1].stats.accepted_by_model == later[2][-1].stats.drafted_by_model


def test_a_full_context_ends_the_answer_where_it_does_without() -> None:
    for context in (16, 17, 23):
        steps = answer(with_draft(Successor(context=context), Successor(context=context)), [1, 2, 3, 4], long(GREEDY))
        assert tokens_of(steps) == alone([1, 2, 3, 4], context - 4)
        assert steps[-1].finish_reason == "length"


def test_nothing_is_drafted_beyond_an_end() -> None:
    ending = alone([3, 1, 4], 9)[8]
    draft = DraftModel(Successor(), CHEAP, (ending,))
    steps = answer(Scheduler(Successor(), (ending,), Pace(8, 8), FREE, draft), [3, 1, 4], long(GREEDY))
    assert (tokens_of(steps), steps[-1].finish_reason) == (alone([3, 1, 4], 9), "stop")
    assert steps[-1].stats.drafted_tokens == steps[-1].stats.accepted_tokens


def test_scoring_is_not_drafted() -> None:
    draft = Successor()
    scheduler = with_draft(Successor(), draft)
    scheduler.submit(Request(0, list(range(20)), None))
    run(scheduler)
    assert not draft.batches


@pytest.mark.parametrize("params", OPTIONS)
def test_a_fork_draws_what_its_sampler_will_draw(params: SamplingParams) -> None:
    sampler, random = Sampler(params, [1, 2, 3], (END,)), np.random.default_rng(0)
    rows = random.normal(size=(6, VOCABULARY)).astype(np.float32) * 3
    for _ in range(2):  # The second time when it has seen some.
        fork = sampler.fork()
        ahead = [fork.next(row) for row in rows]
        assert [sampler.sample(row).token for row in rows] == ahead
