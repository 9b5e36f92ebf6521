"""The sampling controls, which all tabs share. They start from what the model recommends; what a visitor changes is
kept in the visitor's browser."""

from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from falcon_runtime.fleet import Fleet
from falcon_runtime.sampling import SamplingParams

from .runs import INSTANT, LATEST
from .words import say

Values = dict[str, Any]
"""Of the controls, by the names of their parameters."""
FIRST: dict[str, tuple[float, float, float]] = {"max_new_tokens": (1, 2048, 1), "temperature": (0, 2, 0.05)}
MORE: dict[str, tuple[float, float, float]] = {
    "top_k": (0, 200, 1),
    "top_p": (0.05, 1, 0.05),
    "min_p": (0, 1, 0.01),
    "repetition_penalty": (0.5, 2, 0.05),
    "presence_penalty": (-2, 2, 0.1),
    "frequency_penalty": (-2, 2, 0.1),
}
SLIDERS = FIRST | MORE
"""The parameters that have a slider, with its least and greatest value and its step. What only engineers want is in the
Generate tab."""
NAMES = [*SLIDERS, "seed"]
DISTRIBUTION = [name for name in SLIDERS if name != "max_new_tokens"]
"""Those that presets set."""
PRESETS: dict[str, Values] = {
    "Precise": {"temperature": 0},
    "Balanced": {},
    "Creative": {"temperature": 0.9, "top_k": 0, "top_p": 0.95, "min_p": 0.05, "frequency_penalty": 0.3},
}
"""What each changes of the model's defaults."""
CUSTOM = "Custom"


class Sampling:
    """The controls, laid out where it is made."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.saved = gr.BrowserState({}, storage_key="falcon-sampling", secret="falcon")
        """What the visitor has changed of the defaults."""
        first, title = defaults(fleet.current.defaults.sampling), fleet.current.title
        self._defaults, self._title = gr.State(first), gr.Textbox(title, visible="hidden")
        """Of the model that answered when the page was opened, or Reset was pressed."""
        with gr.Accordion(say("sampling.sampling"), elem_id="sampling"):
            presets = [(say(f"sampling.preset.{name.lower()}"), name) for name in (*PRESETS, CUSTOM)]
            self._preset = gr.Radio(
                presets,
                value=preset_of(first, first),
                label=say("sampling.preset"),
                show_label=False,
                elem_id="preset",
            )
            controls: dict[str, Component] = {name: slider(name, first) for name in FIRST}
            with gr.Accordion(say("sampling.more"), open=False):
                controls |= {name: slider(name, first) for name in MORE}
                # Not a number field: Gradio's takes an empty one for zero.
                controls["seed"] = gr.Textbox("", **described("seed"), placeholder=say("sampling.random"))
            self._note = gr.HTML(note(title, {}), elem_id="sampling-note", elem_classes="hint")
            reset = gr.Button(say("sampling.reset"), size="sm", elem_id="reset-sampling")
        self._first = [first, title, *first.values()]
        self.components = [controls[name] for name in NAMES]
        self.opened = [self._defaults, self._title, *self.components]
        """What is set when the page is opened: `reopened` gives the values."""
        self._preset.input(choose_preset, [self._preset, self._defaults, *self.components], self.components, **LATEST)
        reset.click(self.restored, None, self.opened, **INSTANT)
        gr.on(
            [getattr(control, "change") for control in [self._title, *self.components]],  # noqa: B009  (Gradio adds it.)
            remember,
            self.opened,
            [self._preset, self._note, self.saved],
            **LATEST,
        )

    def reopened(self, *sources: Values) -> list[Any]:
        """As `restored`, but what every page opens with stays as it is: a visitor may have changed it already."""
        values = self.restored(*sources)
        return [gr.skip() if value == first else value for value, first in zip(values, self._first, strict=True)]

    def restored(self, *sources: Values) -> list[Any]:
        """The values of `opened`: the defaults of the model that answers now, changed by each source."""
        current = self._fleet.current
        first = defaults(current.defaults.sampling)
        return [first, current.title, *restored(first, *sources)]


def defaults(sampling: SamplingParams) -> Values:
    """The controls' values for a model's defaults, as far as their scales go."""
    return {name: on_scale(name, getattr(sampling, name)) for name in SLIDERS} | {"seed": ""}


def choose_preset(preset: str, defaults: Values, *controls: Any) -> list[Any]:
    """The controls' values with those of the preset; `CUSTOM` leaves them as they are."""
    current = dict(zip(NAMES, controls, strict=True))
    if preset in PRESETS:
        current |= {name: defaults[name] for name in DISTRIBUTION} | PRESETS[preset]
    return list(current.values())


def preset_of(current: Values, defaults: Values) -> str:
    """The preset that the controls' values are."""
    for preset in ("Balanced", *PRESETS):  # First the model's own, which may be as precise as the first of all.
        wanted = defaults | PRESETS[preset]
        if all(current[name] == wanted[name] for name in DISTRIBUTION):
            return preset
    return CUSTOM


def remember(defaults: Values, title: str, *controls: Any) -> tuple[str, str, Values]:
    """The preset that the controls show now, the line about them, and what the browser keeps: what was changed."""
    current = dict(zip(NAMES, controls, strict=True))
    changed = {name: value for name, value in current.items() if value != defaults[name]}
    return preset_of(current, defaults), note(title, changed), changed


def note(title: str, changed: Values) -> str:
    """Whose the values are, as HTML."""
    return f"<p>{say('sampling.changed' if changed else 'sampling.defaults', title=escape(title))}</p>"


def restored(defaults: Values, *sources: Values) -> list[Any]:
    """The controls' values: the defaults, then what each source says, as far as that is possible."""
    current = dict(defaults)
    for source in sources:
        current |= {name: value for name in NAMES if (value := _possible(name, source.get(name))) is not None}
    return list(current.values())


def values(*controls: Any) -> dict[str, Any]:
    """The controls' values as arguments of `SamplingParams`."""
    sampling = dict(zip(NAMES, controls, strict=True))
    sampling["seed"] = sampling["seed"].strip() or None
    return sampling


def described(name: str) -> dict[str, Any]:
    """The label of a field of `SamplingParams` and its explanation, as options of a component."""
    return {"label": say(f"sampling.{name}"), "info": say(f"sampling.{name}.info")}


def slider(name: str, defaults: Values) -> gr.Slider:
    least, greatest, step = SLIDERS[name]
    return gr.Slider(least, greatest, step=step, value=defaults[name], **described(name))


def on_scale(name: str, value: float) -> float:
    """The value, or the end of its slider that is nearest: Gradio takes no others."""
    least, greatest, _ = SLIDERS[name]
    return type(value)(min(max(value, least), greatest))


def _possible(name: str, value: Any) -> Any:
    """The value of a control that comes from a link or from the browser's storage, so that it can be anything; None
    where it cannot be the control's."""
    try:
        if name == "seed":
            SamplingParams(seed=str(value).strip() or None)
            return str(value)
        return on_scale(name, getattr(SamplingParams(**{name: value}), name)) if value is not None else None
    except Exception:
        return None
