"""The Instruct tab: one instruction, a text to apply it to, one answer."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from falcon_runtime import FalconRuntime

from . import controls, stats, streaming
from .runs import INSTANT, Runs, Start, submit_with
from .theme import LATEX

TASKS = {
    "Summarise": "Summarise the text in two sentences.",
    "Rewrite": "Rewrite the text so that it is shorter and friendlier.",
    "Extract": "List every name, place and date in the text.",
    "Translate": "Translate the text into French.",
    "Explain": "Explain the text to a ten-year-old.",
}
SAMPLE = (
    "The peregrine falcon is the fastest animal on Earth. In March 2005 a trained bird named Frightful was measured at "
    "389 kilometres per hour while diving from an aeroplane near Friday Harbor in Washington. Falcons have been kept "
    "for hunting in Arabia and Central Asia for more than three thousand years."
)


def build(runtime: FalconRuntime, sampling: Sequence[Component]) -> None:
    """Lays the tab out and connects its events."""
    gr.Markdown("Give one task, with a text to work on if there is one, and get one answer.", elem_classes="hint")
    with gr.Row(elem_classes="chips"):
        tasks = [gr.Button(label, size="sm") for label in TASKS]
    instruction = gr.Textbox(
        "",
        label="Instruction",
        placeholder="What should be done?",
        lines=2,
        max_lines=6,
    )
    context = gr.Textbox(
        "",
        label="Context (optional)",
        placeholder="Paste a text to work on.",
        lines=5,
        max_lines=12,
    )
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Run", variant="primary", elem_id="instruct-start")
        stop = gr.Button("Stop", variant="stop", visible=False)
        clear = gr.Button("Clear")
    line = gr.HTML(stats.IDLE)
    result = gr.Markdown(
        label="Answer",
        show_label=True,
        container=True,
        min_height=140,
        latex_delimiters=LATEX,
        buttons=["copy"],
        elem_id="instruct-answer",
    )

    def answer(instruction: str, context: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        yield from streaming.to_page(
            runtime,
            lambda params: runtime.instruct(instruction, context=context, params=params),
            controls.values(*values),
            lambda text: text,
        )

    Runs(start, stop, line, locked=[clear]).wire(
        answer,
        [instruction, context, *sampling],
        result,
        [Start([start.click], lambda: ("",), [], [result])],
    )
    submit_with(instruction, start)
    submit_with(context, start)
    clear.click(lambda: ("", "", "", stats.IDLE), None, [instruction, context, result, line], **INSTANT)
    for button, task in zip(tasks, TASKS.values(), strict=True):
        button.click(lambda text, task=task: (task, text or SAMPLE), context, [instruction, context], **INSTANT)
