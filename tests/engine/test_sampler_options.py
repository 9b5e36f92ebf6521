"""Bias, penalties, random numbers and log-probabilities of the sampler; `test_sampler.py` has its distributions."""

import math
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from falcon_runtime import SamplingParams
from falcon_runtime.engine.sampler import Sampler, passes

from .test_sampler import (
    LARGE,
    LOGITS,
    Case,
    distribution,
    everything,
    greedy,
    greedy_token,
    last_distribution,
    normal,
    sampler_of,
    softmax,
    tokens,
)


def test_logit_bias_is_added() -> None:
    logits = np.array([1.0, 2.0, 3.0], np.float32)
    expected = softmax([3.5, 2.0, -97.0])
    np.testing.assert_allclose(
        distribution(logits, everything(logit_bias={0: 2.5, 2: -100, 3: 50})), expected, 1e-5, 1e-30
    )
    np.testing.assert_allclose(distribution(logits, everything(logit_bias={9: 1.0})), softmax(logits), 1e-5)


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([2.0, -2.0, 3.0, -1.0], np.float32)
    found = distribution(logits, everything(repetition_penalty=2.0), prompt=[0, 1, 0])
    np.testing.assert_allclose(found, softmax([1.0, -4.0, 3.0, -1.0]), 1e-5)


@pytest.mark.parametrize(
    ("presence", "frequency", "expected"), [(0.5, 0.25, [2.0, 1.25, 0.75]), (-0.5, 0, [2.0, 2.5, 2.5])]
)
def test_count_penalties_are_subtracted(presence: float, frequency: float, expected: list[float]) -> None:
    params = everything(presence_penalty=presence, frequency_penalty=frequency)
    case = Case(np.full(3, 2.0, np.float32), params, answer=[1, 2, 2, 2])
    sampler_of(case, params).next(case.logits)
    np.testing.assert_allclose(last_distribution(3), softmax(expected), 1e-5)


def test_bias_then_repetition_penalty_then_counts() -> None:
    """Token 0: (-1 + 2) / 2 = 0.5. If the penalty came first: -1 * 2 + 2 = 0. Token 1 has 0.4. Once token 0 stands in
    the answer, it has 0.5 - 0.2; if the counts came first: (1 - 0.2) / 2 = 0.4, which would win, being the first."""
    logits = np.array([-1.0, 0.4], np.float32)
    sampler = Sampler(greedy(logit_bias={0: 2}, repetition_penalty=2, presence_penalty=0.2), [0])
    assert tokens(sampler, logits, 2) == [0, 1]


def test_repetition_penalty_is_of_prompt_and_answer_and_the_others_of_the_answer() -> None:
    logits = np.array([1.0, 0.9, 0.8], np.float32)
    assert tokens(Sampler(greedy(repetition_penalty=2), [0]), logits, 3) == [1, 2, 0]
    assert tokens(Sampler(greedy(presence_penalty=0.5), [0, 0]), logits, 4) == [0, 1, 2, 0]
    # 1.0, 0.9 | 0.8, 0.9, 0.8 | 0.8, 0.7, 0.8 | 0.6, 0.7, 0.8
    assert tokens(Sampler(greedy(frequency_penalty=0.2), [1, 1]), logits, 4) == [0, 1, 0, 2]


def test_end_tokens_are_exempt_from_penalties() -> None:
    logits = np.array([1.0, 0.9, 0.8], np.float32)
    for penalty in ({"repetition_penalty": 2}, {"presence_penalty": 0.5}, {"frequency_penalty": 0.5}):
        assert Sampler(greedy(**penalty), [0, 1, 2], end_tokens=(0, 2)).sample(logits).token == 0
    # They alone: 0.5, 0.9 and 0.8.
    assert Sampler(greedy(repetition_penalty=2), [0, 1, 2], end_tokens=(2,)).sample(logits).token == 2


def test_temperature_zero_is_the_likeliest_after_bias_and_penalties() -> None:
    assert greedy_token(LOGITS) == 1
    assert greedy_token(LOGITS, logit_bias={1: -100}) == 3
    assert greedy_token(LOGITS, logit_bias={2: 100}) == 2
    assert greedy_token(np.array([1.0, 2.0, 1.9], np.float32), [1], repetition_penalty=1.5) == 2


@pytest.mark.parametrize("size", [5, LARGE])
def test_draws_follow_the_distribution(size: int) -> None:
    """Pearson's chi-squared over the tokens, those beyond the fourth taken together: below 18.5 in 999 of 1000 runs
    with 4 degrees of freedom."""
    logits = np.full(size, -4.0 - math.log(size), np.float32)
    logits[:4] = LOGITS[:4]
    probabilities, draws = np.exp(logits.astype(np.float64)), 5_000
    probabilities /= probabilities.sum()
    expected = np.append(probabilities[:4], probabilities[4:].sum()) * draws
    sampler = Sampler(everything(seed=0), [])
    counts = np.bincount(np.minimum(tokens(sampler, logits, draws), 4), minlength=5)
    assert ((counts - expected) ** 2 / expected).sum() < 18.5


@pytest.mark.parametrize("params", [everything(), SamplingParams(), everything(top_p=0.9, presence_penalty=1)])
def test_one_random_number_per_token(params: SamplingParams) -> None:
    sampler = Sampler(params, [1, 2])
    sampler._random = Mock(random=Mock(return_value=0.5))
    tokens(sampler, normal(0), 7)
    assert sampler._random.random.call_count == 7
    assert len(sampler._random.mock_calls) == 7


def test_no_random_number_at_temperature_zero() -> None:
    sampler = Sampler(greedy(), [])
    sampler._random = Mock(spec_set=[])
    assert tokens(sampler, LOGITS, 3) == [1, 1, 1]


def test_same_seed_same_tokens() -> None:
    def draw(seed: int | None) -> list[int]:
        return tokens(Sampler(everything(seed=seed), []), normal(0, 50, 1.0), 50)

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    assert draw(None) != draw(None)


def test_logits_are_neither_kept_nor_changed() -> None:
    params = everything(
        seed=1,
        logit_bias={3: 1},
        repetition_penalty=1.1,
        presence_penalty=1,
        frequency_penalty=1,
        top_p=0.9,
        logprobs=2,
    )
    first, second, buffer = normal(1), normal(2), normal(1)
    buffer.flags.writeable = False
    apart, reused = Sampler(params, [5]), Sampler(params, [5])
    expected = [apart.sample(first), apart.sample(second)]
    found = [reused.sample(buffer)]
    buffer.flags.writeable = True
    buffer[:] = second
    assert [*found, reused.sample(buffer)] == expected


@pytest.mark.parametrize("size", [30, LARGE])
def test_logprobs_are_those_of_the_model(size: int) -> None:
    """Of its own distribution, whatever the parameters make of it."""
    logits = normal(3, size)
    expected = torch.log_softmax(torch.tensor(logits, dtype=torch.float64), -1)
    top = torch.topk(expected, 20)
    params = SamplingParams(temperature=2, logit_bias={7: 100}, repetition_penalty=2, logprobs=20)
    sampled = Sampler(params, [1, 2]).sample(logits)
    assert sampled.logprobs is not None
    assert sampled.token == sampled.logprobs.token_id == 7
    assert sampled.logprobs.logprob == pytest.approx(expected[7].item(), abs=1e-5)
    assert [token for token, _ in sampled.logprobs.top] == top.indices.tolist()
    assert [logprob for _, logprob in sampled.logprobs.top] == pytest.approx(top.values.tolist(), abs=1e-5)


def test_logprobs_only_where_asked_for() -> None:
    assert Sampler(SamplingParams(), []).sample(LOGITS).logprobs is None
    without_others = Sampler(greedy(logprobs=0), []).sample(LOGITS).logprobs
    assert without_others is not None
    assert without_others.top == ()
    assert without_others.logprob == pytest.approx(math.log(0.4), abs=1e-6)
    assert len(passes(5).logprobs(LOGITS, 0, 20).top) == 5


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([1e4, 1e4 - math.log(3)], np.float32)
    np.testing.assert_allclose(distribution(logits, everything()), [0.75, 0.25], rtol=1e-3)
    assert passes(2).logprobs(logits, 0, 0).logprob == pytest.approx(math.log(0.75), abs=1e-3)


@pytest.mark.parametrize("params", [greedy(), SamplingParams(), everything(), everything(top_p=0.9, logprobs=3)])
@pytest.mark.parametrize("size", [5, LARGE])
def test_logits_of_a_damaged_model_still_give_tokens(params: SamplingParams, size: int) -> None:
    assert 0 <= Sampler(params, []).sample(np.full(size, np.nan, np.float32)).token < size
