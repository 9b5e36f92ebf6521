"""The sampling controls, which all tabs share."""

from typing import Any

import gradio as gr
from gradio.components import Component

from falcon_runtime.sampling import SamplingParams

DEFAULTS = SamplingParams()
API_ONLY = {"logit_bias", "logprobs"}
NAMES = [name for name in SamplingParams.model_fields if name not in API_ONLY]
"""The fields that have a control."""


def build() -> list[Component]:
    """Lays the controls out and gives them in the order of `NAMES`."""
    with gr.Accordion("Sampling", elem_id="sampling"):
        controls: dict[str, Component] = {
            "max_new_tokens": gr.Slider(1, 2048, step=1, **_words("max_new_tokens")),
            "temperature": gr.Slider(0, 2, step=0.05, **_words("temperature")),
        }
        with gr.Accordion("More", open=False):
            controls |= {
                "top_k": gr.Slider(0, 200, step=1, **_words("top_k")),
                "top_p": gr.Slider(0.05, 1, step=0.05, **_words("top_p")),
                "min_p": gr.Slider(0, 1, step=0.01, **_words("min_p")),
                "repetition_penalty": gr.Slider(0.5, 2, step=0.05, **_words("repetition_penalty")),
                "presence_penalty": gr.Slider(-2, 2, step=0.1, **_words("presence_penalty")),
                "frequency_penalty": gr.Slider(-2, 2, step=0.1, **_words("frequency_penalty")),
                "stop": gr.Textbox(**_words("stop", value="", note=" One per line; \\n means a line break."), lines=2),
                # Not a number field: Gradio's takes an empty one for zero.
                "seed": gr.Textbox(**_words("seed", value=""), placeholder="random"),
            }
    return [controls[name] for name in NAMES]


def values(*controls: Any) -> dict[str, Any]:
    """The controls' values as arguments of `SamplingParams`."""
    sampling = dict(zip(NAMES, controls, strict=True))
    sampling["stop"] = [line.replace("\\n", "\n") for line in sampling["stop"].splitlines() if line]
    sampling["seed"] = sampling["seed"].strip() or None
    return sampling


def _words(name: str, note: str = "", **options: Any) -> dict[str, Any]:
    """A field's label, explanation and default as options of a component."""
    return {
        "value": getattr(DEFAULTS, name),
        "label": name.replace("_", " ").capitalize(),
        "info": SamplingParams.model_fields[name].description + note,
        **options,
    }
