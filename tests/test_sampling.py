"""The sampling parameters: what they refuse, and how they come together."""

import pickle

import pytest

from falcon_runtime import SamplingParams
from falcon_runtime.errors import InvalidRequest


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"stop": [""]}, "stop"),
        ({"stop": 5}, "stop: .* not 5"),
        ({"stop": ["a" * 1001]}, "stop: .*at most 1,000 characters"),
        ({"stop": ["a", 5]}, r"stop\.1: .* not 5"),
        ({"stop_on_repetition": "maybe"}, "stop_on_repetition: .* not 'maybe'"),
        ({"logit_bias": {"\ud83d": 1}}, "logit_bias.\N{REPLACEMENT CHARACTER}+: "),
        ({"beam_width": 4}, "there is no parameter beam_width"),
        ({"presence_penalty": 2.1}, "presence_penalty: .* not 2.1"),
        ({"frequency_penalty": -3}, "frequency_penalty: .* not -3"),
        ({"logit_bias": {5: 101}}, r"logit_bias\.5: .* not 101"),
        ({"logit_bias": {-1: 1}}, "logit_bias.-1: .* not -1"),
        ({"logit_bias": {"cat": 1}}, "logit_bias.cat: .* not 'cat'"),
        ({"logit_bias": [5]}, "logit_bias: "),
        ({"logprobs": 21}, "logprobs: .* not 21"),
    ],
)
def test_bad_parameters_are_named(values: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        SamplingParams(**values)


def test_one_stop_text_may_be_given_alone() -> None:
    assert SamplingParams(stop="END").stop == ("END",)


def test_halves_of_surrogate_pairs_in_stop_texts_become_replacement_characters() -> None:
    assert SamplingParams(stop=["\ud83d", "a\ud83d\ude00"]).stop == ("\N{REPLACEMENT CHARACTER}", "a\N{GRINNING FACE}")
    assert SamplingParams(stop="\udcff").stop == ("\N{REPLACEMENT CHARACTER}",)


def test_parameters_that_were_given_win_over_defaults() -> None:
    defaults = SamplingParams(temperature=0.7, top_k=5, stop="END")
    assert SamplingParams(temperature=None, stop=None).over(defaults) == defaults
    assert SamplingParams(temperature=0, stop=()).over(defaults) == SamplingParams(temperature=0, top_k=5)


def test_logit_bias_as_json_has_it() -> None:
    params = SamplingParams(logit_bias={"42": -100, "7": "0.5"})
    assert params.logit_bias == {42: -100.0, 7: 0.5}
    assert pickle.loads(pickle.dumps(params)) == params
