"""The sampling controls, which all tabs share; what a visitor sets is kept in the visitor's browser."""

from typing import Any

import gradio as gr
from gradio.components import Component

from falcon_runtime.sampling import SamplingParams

from .runs import INSTANT

DEFAULTS = SamplingParams()
ELSEWHERE = {"stop", "logit_bias", "logprobs", "stop_on_repetition"}
"""Not here: the Generate tab has what only engineers want, and a loop helps nobody."""
NAMES = [name for name in SamplingParams.model_fields if name not in ELSEWHERE]
"""The fields that have a control."""
DISTRIBUTION = [name for name in NAMES if name not in ("max_new_tokens", "seed")]
"""Those of them that presets set."""
PRESETS: dict[str, dict[str, Any]] = {
    "Precise": {"temperature": 0},
    "Balanced": {},
    "Creative": {"temperature": 0.9, "top_k": 0, "top_p": 0.95, "min_p": 0.05, "frequency_penalty": 0.3},
}
"""What each changes of the defaults."""
CUSTOM = "Custom"


class Sampling:
    """The controls, laid out where it is made."""

    def __init__(self) -> None:
        self.saved = gr.BrowserState({}, storage_key="falcon-sampling", secret="falcon")
        with gr.Accordion("Sampling", elem_id="sampling"):
            self._preset = gr.Radio(
                [*PRESETS, CUSTOM], value=preset_of(defaults()), label="Preset", show_label=False, elem_id="preset"
            )
            controls: dict[str, Component] = {
                "max_new_tokens": gr.Slider(1, 2048, step=1, **words("max_new_tokens")),
                "temperature": gr.Slider(0, 2, step=0.05, **words("temperature")),
            }
            with gr.Accordion("More", open=False):
                controls |= {
                    "top_k": gr.Slider(0, 200, step=1, **words("top_k")),
                    "top_p": gr.Slider(0.05, 1, step=0.05, **words("top_p")),
                    "min_p": gr.Slider(0, 1, step=0.01, **words("min_p")),
                    "repetition_penalty": gr.Slider(0.5, 2, step=0.05, **words("repetition_penalty")),
                    "presence_penalty": gr.Slider(-2, 2, step=0.1, **words("presence_penalty")),
                    "frequency_penalty": gr.Slider(-2, 2, step=0.1, **words("frequency_penalty")),
                    # Not a number field: Gradio's takes an empty one for zero.
                    "seed": gr.Textbox(**words("seed", value=""), placeholder="random"),
                }
            reset = gr.Button("Reset", size="sm", elem_id="reset-sampling")
        self.components = [controls[name] for name in NAMES]
        self._preset.input(choose_preset, [self._preset, *self.components], self.components, **INSTANT)
        reset.click(lambda: list(defaults().values()), None, self.components, **INSTANT)
        gr.on(
            [control.change for control in self.components],
            remember,
            self.components,
            [self._preset, self.saved],
            trigger_mode="always_last",
            **INSTANT,
        )


def defaults() -> dict[str, Any]:
    """Every control's value at first."""
    return {name: "" if name == "seed" else getattr(DEFAULTS, name) for name in NAMES}


def choose_preset(preset: str, *controls: Any) -> list[Any]:
    """The controls' values with those of the preset; `CUSTOM` leaves them as they are."""
    current = dict(zip(NAMES, controls, strict=True))
    if preset in PRESETS:
        current |= {name: defaults()[name] for name in DISTRIBUTION} | PRESETS[preset]
    return list(current.values())


def preset_of(current: dict[str, Any]) -> str:
    """The preset that the controls' values are."""
    for preset, changes in PRESETS.items():
        wanted = defaults() | changes
        if all(current[name] == wanted[name] for name in DISTRIBUTION):
            return preset
    return CUSTOM


def remember(*controls: Any) -> tuple[str, dict[str, Any]]:
    """The preset that the controls show now, and what the browser keeps of them."""
    current = dict(zip(NAMES, controls, strict=True))
    return preset_of(current), current


def restored(*sources: dict[str, Any]) -> list[Any]:
    """The controls' values: the defaults, then what each source says, as far as that is possible."""
    current = defaults()
    for source in sources:
        for name in NAMES:
            if name in source and _is_possible(name, source[name]):
                current[name] = type(current[name])(source[name])
    return list(current.values())


def values(*controls: Any) -> dict[str, Any]:
    """The controls' values as arguments of `SamplingParams`."""
    sampling = dict(zip(NAMES, controls, strict=True))
    sampling["seed"] = sampling["seed"].strip() or None
    return sampling


def words(name: str, note: str = "", **options: Any) -> dict[str, Any]:
    """A field's label, explanation and default as options of a component."""
    return {
        "value": getattr(DEFAULTS, name),
        "label": name.replace("_", " ").capitalize(),
        "info": SamplingParams.model_fields[name].description + note,
        **options,
    }


def _is_possible(name: str, value: Any) -> bool:
    try:
        SamplingParams(**values(*(defaults() | {name: value}).values()))
    except Exception:  # It comes from a link or from the browser's storage: it can be anything.
        return False
    return True
