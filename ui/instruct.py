"""The Instruct tab: one instruction, a text to apply it to, one answer, as text or in a form that is asked for."""

import json
from collections.abc import Iterator
from typing import Any

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import FalconError
from falcon_runtime.fleet import Fleet
from falcon_runtime.runtime import Generation
from falcon_runtime.sampling import SamplingParams

from . import controls, documents, formats, link, stats, streaming
from .controls import Sampling
from .link import Opening
from .runs import INSTANT, Keep, Runs, Start, submit_with
from .streaming import Update
from .theme import LATEX

ARTICLE = (
    "The peregrine falcon is the fastest animal on Earth. In March 2005 a trained bird named Frightful was measured at "
    "389 kilometres per hour while diving from an aeroplane near Friday Harbor in Washington. Falcons have been kept "
    "for hunting in Arabia and Central Asia for more than three thousand years."
)
LETTER = (
    "Hi team, the printer on the second floor is broken again. The technician comes on Thursday at 10. Until then "
    "please use the one next to the kitchen. Bring your own paper, since ours ran out yesterday. Sorry for the "
    "trouble, and thanks for your patience! Maria"
)
TASKS = {
    "Summarise": ("Summarise the text in one short sentence.", ARTICLE),
    "Three facts": ("List three facts from the text.", ARTICLE),
    "Explain": ("Explain the text to a ten-year-old.", ARTICLE),
    "Questions": ("Write three questions that the text answers.", ARTICLE),
    "Reply": ("Write a short, friendly reply to this email.", LETTER),
}
"""What each of the buttons asks for, and a text to ask it of where the visitor has given none."""
TEXT, JSON = "Text", "JSON"


def build(fleet: Fleet, sampling: Sampling, opening: Opening) -> None:
    """Lays the tab out and connects its events."""
    gr.Markdown(
        "Give one task, with a text to work on if there is one, and get one answer. Enter runs it.",
        elem_classes="hint",
    )
    with gr.Row(elem_classes="chips"):
        tasks = [gr.Button(label, size="sm") for label in TASKS]
    instruction = gr.Textbox(
        "", label="Instruction", placeholder="What should be done?", lines=1, max_lines=6, elem_id="instruction"
    )
    context = gr.Textbox(
        "", label="Context (optional)", placeholder="Paste a text to work on, or drop a file below.", lines=5,
        max_lines=12, elem_id="context",
    )  # fmt: skip
    with gr.Row(elem_classes="context-row"):
        size = gr.HTML("", elem_id="context-size")
        shorten = gr.Button("Shorten to what fits", size="sm", visible=False, elem_id="shorten")
    # No `file_types`: what cannot be read is said in place, not in Gradio's own pop-up.
    document = gr.File(label="Drop a text, Markdown or PDF file", height=120, elem_id="document")
    with gr.Accordion("Form of the answer", open=False):
        form = gr.Radio([TEXT, JSON], value=TEXT, label="Answer as", elem_id="form")
        with gr.Column(visible=False) as structured:
            gr.Markdown(
                "The model is told to answer in this form, and what it writes is checked against it.",
                elem_classes="hint",
            )
            with gr.Row(elem_classes="chips"):
                examples = [gr.Button(name, size="sm") for name in formats.EXAMPLES]
            schema = gr.Textbox(
                next(iter(formats.EXAMPLES.values())),
                label="JSON schema",
                lines=8,
                max_lines=18,
                elem_id="schema",
                elem_classes="code",
            )
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Run", variant="primary", elem_id="instruct-start")
        stop = gr.Button("Stop", variant="stop", visible=False, elem_classes="stop-run")
        clear = gr.Button("Clear")
        share = gr.Button("Link")
    linked = gr.HTML("")
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
    rendered = gr.HTML("", elem_id="instruct-value")

    asked = gr.State(None)  # The schema of the answer, None for text: it can be edited before the answer is over.

    def answer(instruction: str, context: str, schema: str | None, *values: Any) -> Iterator[tuple[Any, ...]]:
        def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
            wanted = instruction
            if schema is not None and instruction.strip():
                wanted += f"\n\n{formats.ask_for(formats.check_schema(schema))}"
            return runtime.instruct(wanted, context, params=params)

        yield from streaming.to_page(fleet, call, controls.values(*values), lambda update: (update.text,))

    def measure(text: str) -> tuple[str, Any]:
        """How much of the context the text takes, and whether it must be shortened."""
        if not text.strip():
            return "", gr.Button(visible=False)
        runtime = fleet.current
        limit = room(fleet)
        if limit is None:
            return f"<p>{len(text):,} characters</p>", gr.Button(visible=False)
        count = len(runtime.tokenize(text))
        if count <= limit:
            return f"<p>{count:,} tokens; {limit:,} fit</p>", gr.Button(visible=False)
        words = (
            f'<p class="warning">{count:,} tokens are more than the {limit:,} that fit beside the instruction and an '
            "answer. Shorten the text, or let its end be cut off.</p>"
        )
        return words, gr.Button(f"Keep the first {limit:,} tokens", visible=True)

    def truncate(text: str) -> str:
        """The beginning of the text that fits."""
        limit = room(fleet)
        return text if limit is None else fleet.current.decode(fleet.current.tokenize(text)[:limit])

    Runs(start, stop, line, locked=[clear]).wire(
        answer,
        [instruction, context, asked, *sampling.components],
        [result],
        [Start([start.click], begin, [form, schema], [result, rendered, asked])],
        Keep(render, [asked], [rendered]),
    )
    submit_with(instruction, start)
    context.change(measure, context, [size, shorten], trigger_mode="always_last", **INSTANT)
    shorten.click(truncate, context, context, **INSTANT)
    document.upload(take_in, [document, context], [context, line], **INSTANT)
    form.change(lambda form: gr.Column(visible=form == JSON), form, structured, **INSTANT)
    clear.click(
        lambda: ("", "", None, "", "", stats.IDLE),
        None,
        [instruction, context, document, result, rendered, line],
        **INSTANT,
    )
    for button, task in zip(tasks, TASKS.values(), strict=True):
        button.click(lambda text, task=task: (task[0], text or task[1]), context, [instruction, context], **INSTANT)
    for button, example in zip(examples, formats.EXAMPLES.values(), strict=True):
        button.click(lambda example=example: example, None, schema, **INSTANT)
    texts = {"text": instruction, "context": context}
    link.wire(share, linked, "instruct", texts, sampling)
    opening.fill("instruct", texts)


def room(fleet: Fleet) -> int | None:
    """Tokens of a text that fit beside an instruction and an answer; None while no model is loaded."""
    context = fleet.current.context
    return context and context * 5 // 8


def take_in(path: str, context: str) -> tuple[str, str]:
    """The text of the file that was dropped."""
    try:
        return documents.read_document(path), stats.IDLE
    except FalconError as error:
        return context, stats.line(Update(error=str(error)))


def begin(form: str, schema: str) -> tuple[str, str, str | None]:
    """Empties the answer and its table; gives the schema that it is to follow."""
    return "", "", schema if form == JSON else None


def render(last: Update, schema: str | None) -> str:
    """An answer in JSON as a table, or why it is not in the form that was asked for."""
    if schema is None or last.finish_reason not in ("stop", "length"):
        return ""
    found = formats.read_answer(last.text, formats.check_schema(schema))
    problem = f'<p class="warning">{stats.escape(found.problem)}</p>' if found.problem else ""
    return problem + (table(found.value) if isinstance(found.value, dict) else "")


def table(value: dict[str, Any]) -> str:
    """A JSON object as HTML, one field a row."""
    rows = "".join(
        f"<tr><th scope=row>{stats.escape(str(name))}</th><td>{stats.escape(plain(field))}</td></tr>"
        for name, field in value.items()
    )
    return f"<table>{rows}</table>"


def plain(value: Any) -> str:
    """A field's value as people write it."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
