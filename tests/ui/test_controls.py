"""Presets, and settings that come from a browser or a link."""

import pytest

from falcon_runtime.sampling import SamplingParams
from ui import controls, link


@pytest.mark.parametrize("preset", controls.PRESETS)
def test_every_preset_is_possible_and_known_again(preset: str) -> None:
    chosen = controls.choose_preset(preset, *controls.defaults().values())
    SamplingParams(**controls.values(*chosen))
    assert controls.remember(*chosen)[0] == preset


def test_presets_leave_length_and_seed_alone() -> None:
    mine = controls.defaults() | {"max_new_tokens": 7, "seed": "3", "top_k": 1}
    chosen = dict(zip(controls.NAMES, controls.choose_preset("Creative", *mine.values()), strict=True))
    assert (chosen["max_new_tokens"], chosen["seed"]) == (7, "3")
    assert chosen["top_k"] == 0
    assert controls.choose_preset(controls.CUSTOM, *mine.values()) == list(mine.values())
    assert controls.preset_of(mine) == controls.CUSTOM


def test_what_cannot_be_is_passed_over() -> None:
    kept = {"temperature": 0.7, "top_k": -4, "seed": 5, "unknown": 1}
    restored = dict(zip(controls.NAMES, controls.restored(kept, {"top_p": "0.5", "min_p": "much"}), strict=True))
    expected = {"temperature": 0.7, "top_p": 0.5}
    assert restored == controls.defaults() | expected


def test_links() -> None:
    assert link.read("#tab=chat&text=a%26b+c&temperature=0.5") == ("chat", {"text": "a&b c", "temperature": "0.5"})
    assert link.read("#tab=admin&text=x") == (None, {})
    assert link.read("") == (None, {})
