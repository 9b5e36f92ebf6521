"""The Generate tab: one text that the model goes on with."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from falcon_runtime import FalconRuntime

from . import controls, stats, streaming
from .runs import INSTANT, Runs, Start

BEGINNINGS = {
    "A story": "The falcon had circled the old tower for three days. On the fourth morning,",
    "A recipe": "Lemon and mint cooler\n\nIngredients:\n-",
    "An article": "Why the desert sky is so dark at night\n\nFar from any city,",
    "Code": 'def is_prime(n: int) -> bool:\n    """True if n is a prime number."""\n',
}


def build(runtime: FalconRuntime, sampling: Sequence[Component]) -> None:
    """Lays the tab out and connects its events."""
    gr.Markdown(
        "Write a beginning; the model goes on from its last word. Edit, and let it continue.", elem_classes="hint"
    )
    with gr.Row(elem_classes="chips"):
        beginnings = [gr.Button(label, size="sm") for label in BEGINNINGS]
    text = gr.Textbox(
        "",
        label="Text",
        placeholder="Once upon a time…",
        lines=12,
        max_lines=24,
        elem_id="generate-text",
    )
    line = gr.HTML(stats.IDLE)
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Generate", variant="primary")
        stop = gr.Button("Stop", variant="stop", visible=False)
        retry = gr.Button("Retry")
        undo = gr.Button("Undo")
        clear = gr.Button("Clear")
    earlier = gr.State([])

    def answer(text: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        yield from streaming.to_page(
            runtime,
            lambda params: runtime.generate(text, params),
            controls.values(*values),
            lambda completion: text + completion,
        )

    Runs(start, stop, line, locked=[text, retry, undo, clear, *beginnings], again="Continue").wire(
        answer,
        [text, *sampling],
        text,
        [
            Start([start.click, text.submit], remember, [text, earlier], [earlier]),
            Start([retry.click], go_back, [text, earlier], [text, earlier]),
        ],
    )
    undo.click(undo_run, [text, earlier], [text, earlier, start], **INSTANT)
    clear.click(lambda: ("", [], "Generate", stats.IDLE), None, [text, earlier, start, line], **INSTANT)
    for button, beginning in zip(beginnings, BEGINNINGS.values(), strict=True):
        button.click(lambda beginning=beginning: (beginning, [], "Generate"), None, [text, earlier, start], **INSTANT)


def remember(text: str, earlier: list[str]) -> tuple[list[str]]:
    """Keeps the text as it is before a run."""
    return (earlier if text in earlier[-1:] else [*earlier, text],)


def go_back(text: str, earlier: list[str]) -> tuple[str, list[str]]:
    """The text as it was before the last run, for another one from there."""
    return (earlier[-1], earlier) if earlier else (text, [text])


def undo_run(text: str, earlier: list[str]) -> tuple[str, list[str], str]:
    """Takes the last run back."""
    if earlier:
        *earlier, text = earlier
    return text, earlier, "Continue" if earlier else "Generate"
