"""Sampling against distributions worked out by hand, and against transformers' own processors."""

import math

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from falcon_runtime import SamplingParams
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.sampling import apply_repetition_penalty, candidates, sample, softmax

PROBABILITIES = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
LOGITS = np.log(PROBABILITIES).astype(np.float32)


def everything(**changes: object) -> SamplingParams:
    """Parameters that leave the model's distribution as it is, but for `changes`."""
    return SamplingParams(**{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | changes)


@pytest.mark.parametrize(
    ("params", "ids", "probabilities"),
    [
        (everything(), [1, 3, 4, 0, 2], [0.4, 0.25, 0.2, 0.1, 0.05]),
        (everything(top_k=2), [1, 3], [0.4 / 0.65, 0.25 / 0.65]),
        (everything(top_k=99), [1, 3, 4, 0, 2], [0.4, 0.25, 0.2, 0.1, 0.05]),
        # 0.4 + 0.25 is short of 0.7; the token that passes it is kept.
        (everything(top_p=0.7), [1, 3, 4], [0.4 / 0.85, 0.25 / 0.85, 0.2 / 0.85]),
        (everything(top_p=0.3), [1], [1.0]),
        # At least a fifth of 0.4: 0.08.
        (everything(min_p=0.2), [1, 3, 4, 0], [0.4 / 0.95, 0.25 / 0.95, 0.2 / 0.95, 0.1 / 0.95]),
        # top_k first, then top_p of what is left: 0.4 / 0.85 = 0.47, with the next 0.76.
        (everything(top_k=3, top_p=0.6), [1, 3], [0.4 / 0.65, 0.25 / 0.65]),
        # Temperature 0.5 squares: 0.16, 0.0625, 0.04, 0.01, 0.0025, sum 0.275.
        (
            everything(temperature=0.5),
            [1, 3, 4, 0, 2],
            [0.16 / 0.275, 0.0625 / 0.275, 0.04 / 0.275, 0.01 / 0.275, 0.0025 / 0.275],
        ),
    ],
)
def test_candidates_by_hand(params: SamplingParams, ids: list[int], probabilities: list[float]) -> None:
    found_ids, found = candidates(LOGITS, params)
    assert found_ids.tolist() == ids
    np.testing.assert_allclose(found, probabilities, rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_candidates_equal_transformers(seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, 1000).astype(np.float32)
    seen = [1, 5, 5, 77, 900]
    params = SamplingParams(temperature=0.8, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.3)
    processors = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.3),
            TemperatureLogitsWarper(0.8),
            TopKLogitsWarper(40),
            TopPLogitsWarper(0.9),
            MinPLogitsWarper(0.02),
        ]
    )
    expected = torch.softmax(processors(torch.tensor([seen]), torch.tensor(logits)[None]), -1)[0].numpy()
    ids, probabilities = candidates(apply_repetition_penalty(logits, seen, 1.3), params)
    found = np.zeros(1000)
    found[ids] = probabilities
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    logits = np.array([2.0, -2.0, 3.0, -1.0], dtype=np.float32)
    assert apply_repetition_penalty(logits, [0, 1, 1], 2.0).tolist() == [1.0, -4.0, 3.0, -1.0]
    assert logits.tolist() == [2.0, -2.0, 3.0, -1.0], "the model's own logits must stay"


def test_sample_draws_from_the_distribution() -> None:
    random = np.random.default_rng(0)
    draws = 20_000
    counts = np.bincount([sample(LOGITS, everything(), [], random) for _ in range(draws)], minlength=5)
    # Three standard deviations of a binomial share.
    bounds = 3 * np.sqrt(PROBABILITIES * (1 - PROBABILITIES) / draws)
    assert (np.abs(counts / draws - PROBABILITIES) < bounds).all()


def test_temperature_zero_is_greedy_after_penalties() -> None:
    random = np.random.default_rng(0)
    assert sample(LOGITS, SamplingParams(temperature=0), [], random) == 1
    logits = np.array([1.0, 2.0, 1.9], dtype=np.float32)
    assert sample(logits, SamplingParams(temperature=0, repetition_penalty=1.5), [1], random) == 2


def test_same_seed_same_tokens() -> None:
    def draw(seed: int) -> list[int]:
        random = np.random.default_rng(seed)
        return [sample(LOGITS, everything(), [], random) for _ in range(50)]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_softmax_of_large_logits_is_finite() -> None:
    np.testing.assert_allclose(softmax(np.array([1e4, 1e4 - math.log(3)], dtype=np.float32)), [0.75, 0.25], rtol=1e-3)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"stop": [""]}, "stop"),
        ({"beam_width": 4}, "there is no parameter beam_width"),
    ],
)
def test_bad_parameters_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        SamplingParams(**values)


def test_one_stop_text_may_be_given_alone() -> None:
    assert SamplingParams(stop="END").stop == ("END",)
