"""The Instruct tab: one instruction, a text to apply it to, one answer, as text or in a form that is asked for."""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import FalconError
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.text.prompt import MAX_CHARACTERS

from . import answers, controls, documents, formats, link, stats, streaming
from .chips import Chips
from .clearing import Clearing
from .controls import Sampling
from .link import Opening
from .runs import INSTANT, LATEST, SILENT, Keep, Runs, Start, submit_with
from .update import Update
from .words import say

TEXT, JSON = "Text", "JSON"


class Asked(NamedTuple):
    """What a run is to answer: the boxes can be edited before it is over."""

    instruction: str = ""
    context: str = ""
    schema: str | None = None
    """The form of the answer; None for text."""
    begun: str = ""
    """What of the answer is there already."""


class Shown(NamedTuple):
    """What a run begins with: an answer to go on with, or none."""

    answer: str
    value: str
    """The answer as a table, where it is JSON."""
    asked: Asked


class Kept(NamedTuple):
    """An answer that is over."""

    answer: str
    value: str
    written: str
    """Its text, for going on with it."""


def build(fleet: Fleet, sampling: Sampling, opening: Opening) -> None:
    """Lays the tab out and connects its events."""
    tab = InstructTab(fleet, opening)
    tab.connect_runs(sampling)
    tab.connect_context()
    tab.connect_form()
    tab.connect_clearing()
    texts = {"text": tab.instruction, "context": tab.context}
    link.wire(tab.share, tab.linked, "instruct", texts, sampling)
    opening.fill("instruct", texts)


class InstructTab:
    """The components of the tab, and the functions that their events call."""

    def __init__(self, fleet: Fleet, opening: Opening) -> None:
        self._fleet = fleet
        gr.Markdown(say("instruct.hint"), elem_classes="hint")
        self.tasks = Chips(lambda: fleet.current.defaults.examples.instruct, opening)
        self.instruction = gr.Textbox(
            "",
            label=say("instruct.instruction"),
            placeholder=say("instruct.what"),
            lines=1,
            max_lines=6,
            elem_id="instruction",
        )
        self._lay_out_context()
        with gr.Accordion(say("instruct.form"), open=False):
            self._lay_out_form(opening)
        with gr.Row(elem_classes="actions"):
            self.start = gr.Button(say("instruct.run"), variant="primary", elem_id="instruct-start")
            self.stop = gr.Button(say("runs.stop"), variant="stop", visible=False, elem_classes="stop-run")
            self.clearing = Clearing()
            self.share = gr.Button(say("link.link"))
            self.resume = gr.Button(
                say("stats.continue"), visible="hidden", elem_id="instruct-resume", elem_classes="continue"
            )
        self.linked = gr.HTML("")
        self.line = gr.HTML(stats.idle())
        self.result = answers.block(say("instruct.answer"), elem_id="instruct-answer")
        self.value = gr.HTML("", elem_id="instruct-value")
        self.asked, self.written = gr.State(Asked()), gr.State("")

    def _lay_out_context(self) -> None:
        self.context = gr.Textbox(
            "",
            label=say("instruct.context"),
            placeholder=say("instruct.paste"),
            lines=5,
            max_lines=12,
            elem_id="context",
        )
        with gr.Row(elem_classes="context-row"):
            self.size = gr.HTML("", elem_id="context-size")
            self.shorten = gr.Button(say("instruct.shorten"), size="sm", visible=False, elem_id="shorten")
        # No `file_types`: what cannot be read is said in place, not in Gradio's own pop-up.
        self.document = gr.File(label=say("instruct.file"), height=72, elem_id="document")

    def _lay_out_form(self, opening: Opening) -> None:
        self.form = gr.Radio(
            [(say("instruct.as_text"), TEXT), JSON], value=TEXT, label=say("instruct.as"), elem_id="form"
        )
        with gr.Column(visible=False) as self.structured:
            gr.Markdown(say("instruct.form_hint"), elem_classes="hint")
            self.examples = Chips(formats.examples, opening)
            self.schema = gr.Textbox(
                next(iter(formats.EXAMPLES.values())),
                label=say("instruct.schema"),
                lines=8,
                max_lines=18,
                elem_id="schema",
                elem_classes="code",
            )

    def connect_runs(self, sampling: Sampling) -> None:
        shown = [self.result, self.value, self.asked]
        Runs(self.start, self.stop, self.line, locked=self.clearing.buttons).wire(
            self._answer,
            [self.asked, *sampling.components],
            [self.result],
            [
                Start([self.start.click], begin, [self.instruction, self.context, self.form, self.schema], shown),
                Start([self.resume.click], go_on, [self.asked, self.written], shown),
            ],
            Keep(keep, [self.asked], [self.result, self.value, self.written]),
        )
        submit_with(self.instruction, self.start)

    def connect_context(self) -> None:
        self.context.change(self._measure, self.context, [self.size, self.shorten], **LATEST)
        self.shorten.click(self._truncate, self.context, self.context, **INSTANT)
        self.document.upload(take_in, self.document, [self.document, self.context, self.line], **SILENT)
        self.tasks.click(
            lambda task, text: (task[0], text or task[1]), [self.context], [self.instruction, self.context]
        )

    def connect_form(self) -> None:
        self.form.change(lambda form: gr.Column(visible=form == JSON), self.form, self.structured, **INSTANT)
        self.examples.click(lambda schema: schema, [], [self.schema])

    def connect_clearing(self) -> None:
        boxes = [self.instruction, self.context]
        self.clearing.wire(
            [*boxes, self.result, self.value, self.asked, self.written, self.line],
            lambda: ["", "", "", "", Asked(), "", stats.idle()],
            boxes,
            [self.start.click, self.document.upload, self.tasks.row.click],
        )

    def _answer(self, asked: Asked, *values: Any) -> Iterator[tuple[Any, ...]]:
        def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
            wanted = asked.instruction
            if asked.schema is not None and wanted.strip():
                schema = formats.check_schema(asked.schema)
                wanted += f"\n\n{formats.ask_for(schema)}"  # What the fields are for, the schema itself cannot tell it.
                constraint = {"json_schema": schema, "begun": asked.begun}
                params = SamplingParams(**params.model_dump(exclude_unset=True) | {"constraint": constraint})
            return runtime.instruct(wanted, asked.context, params=params, begun=asked.begun)

        def show(update: Update) -> tuple[str]:
            return (draw(asked.begun + update.text, asked, live=True),)

        yield from streaming.to_page(self._fleet, call, controls.values(*values), show)

    def _measure(self, text: str) -> tuple[str, Any]:
        """How much of the context the text takes, and whether it must be shortened."""
        if not text.strip():
            return "", gr.Button(visible=False)
        limit = room(self._fleet)
        if limit is None:
            return f"<p>{say('instruct.characters', count=len(text))}</p>", gr.Button(visible=False)
        count = len(self._fleet.current.tokenize(text[:MAX_CHARACTERS]))  # More would only be more that does not fit.
        if count <= limit:
            return f"<p>{say('instruct.fits', count=count, limit=limit)}</p>", gr.Button(visible=False)
        told = f'<p class="warning">{say("instruct.too_long", count=count, limit=limit)}</p>'
        return told, gr.Button(say("instruct.keep", count=limit), visible=True)

    def _truncate(self, text: str) -> str:
        """The beginning of the text that fits."""
        limit, runtime = room(self._fleet), self._fleet.current
        if limit is None:
            return text
        kept = runtime.decode(runtime.tokenize(text[:MAX_CHARACTERS])[:limit])
        return kept.rstrip("\N{REPLACEMENT CHARACTER}")  # The last token may be part of a character.


def room(fleet: Fleet) -> int | None:
    """Tokens of a text that fit beside an instruction and an answer; None while no model is loaded."""
    context = fleet.current.context
    return context and context * 5 // 8


def take_in(path: str) -> tuple[None, Any, str]:
    """The text of the file that was dropped, in whose place another one can be."""
    try:
        return None, documents.read_document(path), stats.idle()
    except FalconError as error:
        return None, gr.skip(), stats.line(Update(error=str(error)))
    finally:
        Path(path).unlink(missing_ok=True)


def begin(instruction: str, context: str, form: str, schema: str) -> Shown:
    """Empties the answer and its table for a task."""
    return Shown("", "", Asked(instruction, context, schema if form == JSON else None))


def go_on(asked: Asked, written: str) -> Shown:
    """Lets the model go on with its answer."""
    return Shown(draw(written, asked, live=True), "", asked._replace(begun=written))


def keep(last: Update, asked: Asked) -> Kept:
    """An answer that is over: as text, as a table where it was asked for in JSON, and for going on with it."""
    written = asked.begun + last.text
    over = last.finish_reason in ("stop", "length", "repetition", "time")
    return Kept(draw(written, asked), tabulate(written, asked.schema) if over else "", written)


def draw(text: str, asked: Asked, live: bool = False) -> str:
    """An answer as HTML: Markdown, or code where it was asked for in JSON."""
    return answers.render(text, live) if asked.schema is None else answers.render_code(text, "json")


def tabulate(written: str, schema: str | None) -> str:
    """An answer in JSON as a table, or why it is not in the form that was asked for."""
    if schema is None:
        return ""
    found = formats.read_answer(written, formats.check_schema(schema))
    matches = f'<p class="matches">{say("instruct.matches")}</p>'
    told = f'<p class="warning">{escape(found.problem)}</p>' if found.problem else matches
    return told + (table(found.value) if isinstance(found.value, dict) else "")


def table(value: dict[str, Any]) -> str:
    """A JSON object as HTML, one field a row."""
    rows = "".join(
        f"<tr><th scope=row>{escape(str(name))}</th><td dir=auto>{escape(plain(field))}</td></tr>"
        for name, field in value.items()
    )
    return f"<table>{rows}</table>"


def plain(value: Any) -> str:
    """A field's value as people write it."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return say("list.comma").join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
