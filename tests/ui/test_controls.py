"""Presets, and settings that come from a model, a browser or a link."""

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from pydantic import Field

from falcon_runtime.sampling import SamplingParams
from ui import controls, link

DEFAULTS = controls.defaults(SamplingParams())
WARM = controls.defaults(SamplingParams(temperature=0.6, top_k=0, max_new_tokens=512))


def named(values: list[Any]) -> dict[str, Any]:
    return dict(zip(controls.NAMES, values, strict=True))


@pytest.mark.parametrize("defaults", [DEFAULTS, WARM])
@pytest.mark.parametrize("preset", controls.PRESETS)
def test_every_preset_is_possible_and_known_again(preset: str, defaults: controls.Values) -> None:
    chosen = controls.choose_preset(preset, defaults, *DEFAULTS.values())
    SamplingParams(**controls.values(*chosen))
    assert controls.preset_of(named(chosen), defaults) == preset


def test_presets_change_the_defaults_of_the_model() -> None:
    mine = DEFAULTS | {"max_new_tokens": 7, "seed": "3", "top_k": 1}
    assert named(controls.choose_preset("Balanced", WARM, *mine.values())) == WARM | {"max_new_tokens": 7, "seed": "3"}
    chosen = named(controls.choose_preset("Precise", WARM, *mine.values()))
    assert (chosen["temperature"], chosen["top_k"]) == (0, 0)
    assert controls.choose_preset(controls.CUSTOM, WARM, *mine.values()) == list(mine.values())
    assert controls.preset_of(mine, DEFAULTS) == controls.CUSTOM
    assert controls.preset_of(WARM, WARM) == "Balanced"
    precise = WARM | {"temperature": 0}
    assert controls.preset_of(precise, precise) == "Balanced"


def test_only_what_was_changed_is_kept() -> None:
    """So that whoever has changed nothing gets the defaults of a model that comes later."""
    assert controls.remember(WARM, "Model", *WARM.values()) == ("Balanced", "<p>Defaults of Model</p>", {})
    preset, note, kept = controls.remember(WARM, "A<B", *(WARM | {"top_k": 7, "seed": "1"}).values())
    assert (preset, kept) == (controls.CUSTOM, {"top_k": 7, "seed": "1"})
    assert note == "<p>Changed from the defaults of A&lt;B</p>"
    assert named(controls.restored(DEFAULTS, kept)) == DEFAULTS | kept


def test_the_page_opens_with_the_defaults_of_the_model_that_answers() -> None:
    def answering(title: str, **changes: Any) -> Any:
        return SimpleNamespace(title=title, defaults=SimpleNamespace(sampling=SamplingParams(**changes)))

    fleet: Any = SimpleNamespace(current=answering("First"))
    with gr.Blocks():
        sampling = controls.Sampling(fleet)
    fleet.current = answering("Second", temperature=0.6)
    defaults, title, *values = sampling.restored({"top_k": 9}, {"top_k": "8"})
    assert (title, defaults) == ("Second", DEFAULTS | {"temperature": 0.6})
    assert named(values) == DEFAULTS | {"temperature": 0.6, "top_k": 8}
    assert len(sampling.opened) == 2 + len(sampling.components)


def test_what_cannot_be_is_passed_over() -> None:
    kept = {"temperature": 0.7, "top_k": -4, "seed": 5, "unknown": 1, "presence_penalty": None, "min_p": float("nan")}
    odd = {"top_p": "0.5", "min_p": "much", "repetition_penalty": [1], "frequency_penalty": {}}
    assert named(controls.restored(DEFAULTS, kept, odd)) == DEFAULTS | {"temperature": 0.7, "top_p": 0.5, "seed": "5"}


def test_sliders_get_what_is_on_their_scale() -> None:
    wide = SamplingParams(temperature=4, top_k=1000, top_p=0.01, max_new_tokens=8192)
    ends = {"temperature": 2, "top_k": 200, "top_p": 0.05, "max_new_tokens": 2048}
    assert controls.defaults(wide) == DEFAULTS | ends
    assert named(controls.restored(DEFAULTS, {"temperature": "4", "top_k": 1000})) == DEFAULTS | {
        "temperature": 2,
        "top_k": 200,
    }


def test_a_parameter_without_a_control_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(SamplingParams):
        novelty: bool = Field(True, description="Something new.")

    monkeypatch.setattr(controls, "SamplingParams", Later)
    assert controls.defaults(Later()) == DEFAULTS
    assert named(controls.restored(DEFAULTS, {"novelty": False, "top_k": 3})) == DEFAULTS | {"top_k": 3}
    Later(**controls.values(*DEFAULTS.values()))


def test_links() -> None:
    assert link.read("#tab=chat&text=a%26b+c&temperature=0.5") == ("chat", {"text": "a&b c", "temperature": "0.5"})
    assert link.read("#tab=admin&text=x") == (None, {})
    assert link.read("") == (None, {})
