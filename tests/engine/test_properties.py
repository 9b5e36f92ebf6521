"""Any interleaving of arrivals, cancels, lengths and guesses gives each request exactly what it gets alone."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from falcon_runtime.engine.draft_model import DraftModel
from falcon_runtime.engine.request import Request
from falcon_runtime.engine.sampler import Sampler
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.engine.step import Step
from falcon_runtime.sampling import SamplingParams

from .fake_program import VOCABULARY, FakeProgram

CONTEXT, END = 40, 3


class Model(FakeProgram):
    """Its logits depend on the last two tokens, so that texts repeat themselves now and then, and on the first one."""

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        random = np.random.default_rng([text[0], *text[-2:]])
        return (random.normal(size=VOCABULARY) * 4).astype(np.float32)


@dataclass(frozen=True)
class Visit:
    prompt: tuple[int, ...]
    params: SamplingParams | None
    arrives: int
    """After so many forwards."""
    leaves: int | None
    """Cancelled after so many forwards."""


params = st.builds(
    SamplingParams,
    max_new_tokens=st.integers(1, 30),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([0.8, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    # A seed, so that sampling can be compared; with temperature 0 it may be left out, and the cache is used.
    seed=st.integers(0, 5),
)
greedy = st.builds(SamplingParams, max_new_tokens=st.integers(1, 30), temperature=st.just(0.0))
# Few different tokens, so that prompts share beginnings and lookups find something.
texts = st.lists(st.integers(0, 4), min_size=2, max_size=CONTEXT - 1).map(tuple)
LONG = (1, 0, 4, 2, 2, 0, 3, 1, 4, 4, 0, 2, 1, 3, 0, 4, 2, 1, 1, 0, 3, 3, 2, 4)
"""What many prompts begin with."""
visits = st.builds(
    Visit,
    prompt=st.one_of(texts, st.builds(lambda n, text: (*LONG[:n], *text)[: CONTEXT - 1], st.integers(8, 24), texts)),
    params=st.one_of(params, greedy, greedy, st.none()),
    arrives=st.integers(0, 20),
    leaves=st.one_of(st.none(), st.none(), st.integers(0, 40)),
)


def alone(visit: Visit) -> list[int]:
    """What the model answers, one token after the other."""
    assert visit.params
    model, sampler = Model(), Sampler(visit.params, visit.prompt, (END,))
    tokens = list(visit.prompt)
    while True:
        token = sampler.sample(model.next_logits(tokens)).token
        tokens.append(token)
        answer = tokens[len(visit.prompt) :]
        if token == END or len(answer) == visit.params.max_new_tokens or len(tokens) == CONTEXT:
            return answer


class Resembling(Model):
    """Says mostly what `Model` says."""

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        noise = np.random.default_rng([*text[-1:]]).normal(size=VOCABULARY)
        return (super().next_logits(text) + noise).astype(np.float32)


crowds = st.lists(visits, min_size=1, max_size=8)
paces = st.sampled_from([Pace(16, 16), Pace(7, 2), Pace(1, 1)])


@settings(max_examples=150, deadline=None)
@given(
    crowds,
    st.integers(1, 4),
    paces,
    st.sampled_from([(1.0,) * 64, (1.0, 1.2, 1.3, 2.0, 2.1), (1.0, 5.0, 25.0)]),
)
def test_each_request_gets_what_it_gets_alone(
    visits: list[Visit], slots: int, pace: Pace, costs: tuple[float, ...]
) -> None:
    program = Model(slots, CONTEXT, max_tokens=8 * slots, max_rows=8 * slots)
    check(visits, program, Scheduler(program, (END,), pace, costs))


@settings(max_examples=100, deadline=None)
@given(
    crowds,
    st.integers(1, 4),
    paces,
    st.sampled_from([(1.0,) * 64, (1.0, 1.2, 1.3, 2.0, 2.1)]),
    st.sampled_from([(0.01, 0.01), (0.1, 0.2, 0.3, 0.4), (3.0,)]),
    st.sampled_from([(Model, 4, CONTEXT), (Resembling, 4, CONTEXT), (Resembling, 2, CONTEXT // 2)]),
)
def test_a_draft_model_changes_nothing_of_it(
    visits: list[Visit],
    slots: int,
    pace: Pace,
    costs: tuple[float, ...],
    draft_costs: tuple[float, ...],
    kind: tuple[type[Model], int, int],
) -> None:
    make, most_slots, context = kind
    program = Model(slots, CONTEXT, max_tokens=8 * slots, max_rows=8 * slots)
    draft = make(min(slots, most_slots), context)
    check(visits, program, Scheduler(program, (END,), pace, costs, DraftModel(draft, draft_costs, (END,))))


def check(visits: list[Visit], program: FakeProgram, scheduler: Scheduler) -> None:
    """Lets the visits come and go, and checks what each gets."""
    steps: dict[int, list[Step]] = defaultdict(list)
    for tick in range(2000):
        for i, visit in enumerate(visits):
            if visit.arrives == tick:
                steps[i].append(scheduler.submit(Request(i, visit.prompt, visit.params)))
            if visit.leaves is not None and tick == max(visit.arrives, visit.leaves) and (step := scheduler.cancel(i)):
                steps[i].append(step)
        if scheduler.busy:
            for step in scheduler.step():
                steps[step.request].append(step)
            for slot, cache in zip(scheduler.slots, program.cache, strict=True):
                assert slot.cached == cache[: len(slot.cached)]
        elif tick > max(visit.arrives for visit in visits):
            break
    else:
        raise AssertionError("it does not come to an end")
    assert all(sum(batch) <= program.max_tokens for batch in program.batches)
    for i, visit in enumerate(visits):
        *others, last = steps[i]
        assert last.finish_reason
        assert not any(step.finish_reason for step in others)
        assert last.stats.cached_tokens <= len(visit.prompt)
        assert last.stats.accepted_tokens <= last.stats.drafted_tokens
        assert last.stats.drafted_by_model <= last.stats.drafted_tokens
        assert last.stats.accepted_by_model <= last.stats.accepted_tokens
        if visit.params is None:
            assert last.finish_reason == "cancelled" or len(last.scores) == len(visit.prompt) - 1
            continue
        expected = alone(visit)
        tokens = [token for step in steps[i] for token in step.token_ids]
        assert tokens == expected[: len(tokens)]
        if last.finish_reason != "cancelled":
            assert tokens == expected
            assert last.finish_reason == ("stop" if tokens[-1] == END else "length")
            assert last.stats.generated_tokens == len(tokens)
