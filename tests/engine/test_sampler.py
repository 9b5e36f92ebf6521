"""Sampling against distributions worked out by hand, transformers' own processors, and a reference that sorts."""

from collections.abc import Sequence
from dataclasses import dataclass
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from falcon_runtime import SamplingParams
from falcon_runtime.engine.sampler import Array, Mask, Sampler, passes
from falcon_runtime.errors import NothingAllowed

PROBABILITIES = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
LOGITS = np.log(PROBABILITIES).astype(np.float32)
LARGE = 20_000
"""A vocabulary for which all that is done for large ones matters."""


def everything(**changes: object) -> SamplingParams:
    """Parameters that leave the model's distribution as it is, but for `changes`."""
    return SamplingParams(**{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | changes)


def greedy(**changes: object) -> SamplingParams:
    return SamplingParams(temperature=0, **changes)


def normal(seed: int, size: int = LARGE, deviation: float = 3.0) -> Array:
    return np.random.default_rng(seed).normal(0, deviation, size).astype(np.float32)


def distribution(
    logits: Array, params: SamplingParams, prompt: Sequence[int] = (), allowed: Mask | None = None
) -> NDArray[np.float64]:
    """The probabilities [vocabulary] of a step."""
    Sampler(params, prompt).next(logits, allowed)
    return last_distribution(len(logits))


def last_distribution(vocabulary: int) -> NDArray[np.float64]:
    """That which the last draw was from."""
    workspace = passes(vocabulary).workspace
    weights = np.where(workspace.array("sums")[:, None] > 0, workspace.array("scores").astype(np.float64), 0)
    return (weights / weights.sum()).ravel()[:vocabulary]


def softmax(logits: Sequence[float]) -> NDArray[np.float64]:
    weights = np.exp(np.subtract(logits, np.max(logits)))
    return weights / weights.sum()


def tokens(sampler: Sampler, logits: Array, count: int) -> list[int]:
    return [sampler.sample(logits).token for _ in range(count)]


@pytest.mark.parametrize(
    ("params", "ids", "probabilities"),
    [
        (everything(), [0, 1, 2, 3, 4], PROBABILITIES),
        (everything(top_k=2), [1, 3], [0.4 / 0.65, 0.25 / 0.65]),
        (everything(top_k=99), [0, 1, 2, 3, 4], PROBABILITIES),
        (everything(top_k=10**30), [0, 1, 2, 3, 4], PROBABILITIES),
        # 0.4 + 0.25 is short of 0.7; the token that passes it is kept.
        (everything(top_p=0.7), [1, 3, 4], [0.4 / 0.85, 0.25 / 0.85, 0.2 / 0.85]),
        (everything(top_p=0.3), [1], [1.0]),
        # At least a fifth of 0.4: 0.08.
        (everything(min_p=0.2), [0, 1, 3, 4], [0.1 / 0.95, 0.4 / 0.95, 0.25 / 0.95, 0.2 / 0.95]),
        # top_k first, then top_p of what is left: 0.4 / 0.85 = 0.47, with the next 0.76.
        (everything(top_k=3, top_p=0.6), [1, 3], [0.4 / 0.65, 0.25 / 0.65]),
        # top_p is of all tokens, whatever min_p leaves out: 0.4 + 0.25 of 1 is short of 0.67, but not of 0.67 * 0.85.
        (everything(top_p=0.67, min_p=0.45), [1, 3, 4], [0.4 / 0.85, 0.25 / 0.85, 0.2 / 0.85]),
        (everything(top_p=0.9, min_p=0.6), [1, 3], [0.4 / 0.65, 0.25 / 0.65]),
        # Temperature 0.5 squares: 0.01, 0.16, 0.0025, 0.0625, 0.04, sum 0.275.
        (
            everything(temperature=0.5),
            [0, 1, 2, 3, 4],
            [0.01 / 0.275, 0.16 / 0.275, 0.0025 / 0.275, 0.0625 / 0.275, 0.04 / 0.275],
        ),
        # Temperature before top_p: 0.16 and 0.0625 are 0.81 of 0.275, while 0.4 and 0.25 are short of 0.8.
        (everything(temperature=0.5, top_p=0.8), [1, 3], [0.16 / 0.2225, 0.0625 / 0.2225]),
        # And before min_p: 0.2 / 0.4 squared is a quarter.
        (everything(temperature=0.5, min_p=0.3), [1, 3], [0.16 / 0.2225, 0.0625 / 0.2225]),
        (everything(temperature=1e-40), [1], [1.0]),
    ],
)
def test_distributions_by_hand(params: SamplingParams, ids: list[int], probabilities: Sequence[float]) -> None:
    found = distribution(LOGITS, params)
    assert np.flatnonzero(found).tolist() == ids
    np.testing.assert_allclose(found[ids], probabilities, rtol=1e-5)


def test_equally_likely_tokens_are_kept_in_order() -> None:
    for size in (7, LARGE):
        logits = np.zeros(size, np.float32)
        assert np.flatnonzero(distribution(logits, everything(top_k=3))).tolist() == [0, 1, 2]
        assert np.flatnonzero(distribution(logits, everything(top_p=2.5 / size))).tolist() == [0, 1, 2]
        assert greedy_token(logits) == 0


def greedy_token(logits: Array, prompt: Sequence[int] = (), **changes: object) -> int:
    return Sampler(greedy(**changes), prompt).sample(logits).token


@pytest.mark.parametrize(
    ("params", "processors"),
    [
        ({"temperature": 0.7}, [TemperatureLogitsWarper(0.7)]),
        ({"top_k": 40}, [TopKLogitsWarper(40)]),
        ({"top_k": 5000}, [TopKLogitsWarper(5000)]),
        ({"top_p": 0.9}, [TopPLogitsWarper(0.9)]),
        ({"temperature": 4.0, "top_p": 0.9}, [TemperatureLogitsWarper(4.0), TopPLogitsWarper(0.9)]),
        ({"min_p": 0.03}, [MinPLogitsWarper(0.03)]),
        ({"repetition_penalty": 1.3}, [RepetitionPenaltyLogitsProcessor(1.3)]),
        (
            {"repetition_penalty": 1.3, "temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
            [
                RepetitionPenaltyLogitsProcessor(1.3),
                TemperatureLogitsWarper(0.8),
                TopKLogitsWarper(40),
                TopPLogitsWarper(0.9),
                MinPLogitsWarper(0.02),
            ],
        ),
        (
            {"temperature": 1.4, "top_k": 9000, "top_p": 0.95, "min_p": 0.001},
            [
                TemperatureLogitsWarper(1.4),
                TopKLogitsWarper(9000),
                TopPLogitsWarper(0.95),
                MinPLogitsWarper(0.001),
            ],
        ),
    ],
)
@pytest.mark.parametrize("size", [1000, LARGE])
def test_distributions_equal_those_of_transformers(
    params: dict[str, float], processors: list[object], size: int
) -> None:
    logits, seen = normal(size, size), [1, 5, 5, 77, 900]
    if params.get("top_k", 0) > size:
        params, processors = {}, []
    ours = everything(**params)
    expected = LogitsProcessorList(processors)(torch.tensor([seen]), torch.tensor(logits)[None])
    # Both sides round what they do with the difference d from the maximum to half an ulp, transformers in two steps and
    # we in two and a constant; what is off by x in an exponent is off by the factor 1 + x in a probability. So 4
    # roundings to an ulp of d, which also hold the few ulps of the exponentials; from there on all is float64.
    furthest = ours.repetition_penalty * float(np.ptp(logits)) / ours.temperature
    tolerance = 4 * furthest * np.finfo(np.float32).eps
    found = distribution(logits, ours, seen)
    np.testing.assert_allclose(found, torch.softmax(expected.double(), -1)[0].numpy(), rtol=tolerance)


@dataclass(frozen=True)
class Case:
    logits: Array
    params: SamplingParams
    prompt: Sequence[int] = ()
    answer: Sequence[int] = ()
    allowed: NDArray[np.bool_] | None = None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Logits of all sizes and shapes, many of them equal or impossible, and any parameters."""
    size = draw(st.sampled_from([1, 2, 7, 31, 100, 127, 129, 4097, 5000, LARGE]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = random.normal(0, draw(st.sampled_from([0.01, 0.5, 3.0, 20.0, 1e30])), size)
    if draw(st.booleans()):
        logits = logits.round(draw(st.sampled_from([0, 1])))
    if draw(st.booleans()):
        logits[random.random(size) < 0.3] = -np.inf
        logits[random.integers(size)] = 1.0
    params = everything(
        temperature=draw(st.sampled_from([0.2, 0.7, 1.0, 1.7, 5.0])),
        top_k=draw(st.sampled_from([0, 1, 2, 20, 50, 1000, 6000, size - 1, size])),
        top_p=draw(st.sampled_from([0.001, 0.3, 0.9, 0.99, 1.0])),
        min_p=draw(st.sampled_from([0.0, 0.001, 0.1, 1.0])),
        repetition_penalty=draw(st.sampled_from([1.0, 0.5, 1.3])),
        presence_penalty=draw(st.sampled_from([0.0, 0.5, -2.0])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
        logit_bias=draw(st.dictionaries(st.integers(0, size), st.sampled_from([-100.0, 0.3, 5.0]), max_size=5)),
    )
    prompt, answer = (random.integers(size, size=draw(st.integers(0, 300))).tolist() for _ in range(2))
    share = draw(st.sampled_from([None, 0.001, 0.5, 0.999]))
    allowed = None
    if share is not None:
        allowed = random.random(size) < share
        allowed[logits.argmax()] = True
    return Case(logits.astype(np.float32), params, prompt, answer, allowed)


def packed(allowed: NDArray[np.bool_]) -> Mask:
    """A mask as llguidance and xgrammar make it."""
    bits = np.zeros(-(-len(allowed) // 32) * 32, np.uint8)
    bits[: len(allowed)] = allowed
    return np.packbits(bits, bitorder="little").view(np.int32)


def adjusted(case: Case) -> Array:
    """Logits after mask, bias and penalties."""
    logits, params = case.logits.copy(), case.params
    if case.allowed is not None:
        logits[~case.allowed] = -np.inf
    for token, bias in params.logit_bias.items():
        if token < len(logits):
            logits[token] += np.float32(bias)
    for token in {*case.prompt, *case.answer}:
        penalty = np.float32(params.repetition_penalty)
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    for token in set(case.answer):
        count = case.answer.count(token)
        logits[token] -= np.float32(params.presence_penalty + params.frequency_penalty * count)
    return logits


def reference(logits: Array, params: SamplingParams) -> NDArray[np.float64]:
    """The distribution [vocabulary] after bias and penalties, by sorting. Not where rounding decides."""
    order = np.argsort(-logits, kind="stable")[: params.top_k or None]
    weights = np.exp((logits[order].astype(np.float64) - logits.max()) / params.temperature)
    reached = np.cumsum(weights) / weights.sum()
    assume(np.abs(reached - params.top_p).min() > 1e-6 or params.top_p == 1)
    assume(np.abs(weights / (params.min_p or 9) - 1)[weights < 1].min(initial=1) > 1e-5)
    assume(np.abs(weights * 2.0**120 - 1).min() > 1e-3)
    keep = len(order) if params.top_p == 1 else int(np.searchsorted(reached, params.top_p)) + 1
    kept = weights[:keep] * (weights[:keep] >= max(params.min_p, 2.0**-120))
    expected = np.zeros(len(logits))
    expected[order[:keep]] = kept / kept.sum()
    return expected


def sampler_of(case: Case, params: SamplingParams) -> Sampler:
    """One that has chosen the tokens of the case's answer."""
    sampler = Sampler(params, case.prompt)
    for token in case.answer:
        said = np.full(len(case.logits), -np.inf, np.float32)
        said[token] = 0
        assert sampler.next(said) == token
    return sampler


@settings(deadline=None, max_examples=150)
@given(cases(), st.floats(0, 1, exclude_max=True))
def test_any_case_equals_a_reference_that_sorts(case: Case, uniform: float) -> None:
    logits, allowed = adjusted(case), None if case.allowed is None else packed(case.allowed)
    expected = reference(logits, case.params)
    sampler = sampler_of(case, case.params)
    sampler._random = Mock(random=Mock(return_value=uniform))
    token, found = sampler.next(case.logits, allowed), last_distribution(len(logits))
    assert np.flatnonzero(found).tolist() == np.flatnonzero(expected).tolist()
    np.testing.assert_allclose(found, expected, rtol=3e-5)
    reached = np.cumsum(expected)
    if np.abs(reached - uniform).min() > 1e-6:
        assert token == np.searchsorted(reached, uniform, side="right")
    greedy = case.params.model_copy(update={"temperature": 0.0})
    assert sampler_of(case, greedy).next(case.logits, allowed) == logits.argmax()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 127, 128, 129, 511, 3000]))
def test_choice_is_that_of_one_cumulative_sum(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    found, uniform = distribution(np.log(random.dirichlet(np.ones(size))).astype(np.float32), everything()), 0.0
    reached, uniform = np.cumsum(found), random.random()
    assume(np.abs(reached - uniform).min() > 1e-12)
    assert passes(size).draw(uniform) == np.searchsorted(reached, uniform, side="right")


def test_choice_at_the_ends() -> None:
    distribution(np.array([0.0, -np.inf, 0.0, -np.inf], np.float32), everything())
    assert [passes(4).draw(uniform) for uniform in (0.0, 0.49, 0.5, np.nextafter(1.0, 0.0))] == [0, 0, 2, 2]
    for size in (1, 10, 1000):
        distribution(np.zeros(size, np.float32), everything())
        assert passes(size).draw(np.nextafter(1.0, 0.0)) == size - 1


@pytest.mark.parametrize("size", [5, 31, 32, 33, 300])
def test_only_allowed_tokens_are_chosen(size: int) -> None:
    logits = np.arange(size, dtype=np.float32)
    allowed = np.zeros(size, np.bool_)
    allowed[[0, 3]] = True
    found = distribution(logits, everything(), allowed=packed(allowed))
    assert np.flatnonzero(found).tolist() == [0, 3]
    np.testing.assert_allclose(found[[0, 3]], softmax([0, 3]), rtol=1e-5)
    assert Sampler(greedy(), []).next(logits, packed(allowed)) == 3
    assert Sampler(greedy(logit_bias={0: 4, 2: 100}), []).next(logits, packed(allowed)) == 0
    logprobs = Sampler(greedy(logprobs=1), []).sample(logits, packed(allowed)).logprobs
    assert logprobs
    assert logprobs.top[0][0] == size - 1, "log-probabilities are the model's own"


@pytest.mark.parametrize("size", [7, LARGE])
@pytest.mark.parametrize("top_k", [3, 6, 5000])
def test_fewer_may_be_allowed_than_top_k(size: int, top_k: int) -> None:
    allowed = np.zeros(size, np.bool_)
    allowed[[1, size - 2]] = True
    found = distribution(normal(0, size), everything(top_k=top_k, top_p=0.99999), allowed=packed(allowed))
    assert np.flatnonzero(found).tolist() == [1, size - 2]


@pytest.mark.parametrize("params", [greedy(), SamplingParams(), everything(top_p=0.9)])
def test_where_nothing_is_allowed_a_sentence_says_so(params: SamplingParams) -> None:
    impossible = np.array([0.0, -np.inf, np.nan], np.float32)
    for logits, bits in ((LOGITS, 0), (impossible, 0b110)):
        with pytest.raises(NothingAllowed, match="None of the tokens that are allowed"):
            Sampler(params, []).next(logits, np.array([bits], np.int32))


def test_a_mask_for_another_vocabulary_is_refused() -> None:
    for mask in (np.full(1, -1, np.int32), np.full(2, -1, np.int64)):
        with pytest.raises(ValueError, match="A mask for 33 tokens"):
            Sampler(greedy(), []).next(np.zeros(33, np.float32), mask)  # type: ignore[arg-type]
