"""The Compare tab: one prompt, two answers side by side, from two models or at two temperatures."""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from difflib import SequenceMatcher
from html import escape
from typing import Any, get_args

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.catalog import STARTER
from falcon_runtime.fleet import Fleet
from falcon_runtime.manifest import RecipeName
from falcon_runtime.runtime import Generation
from falcon_runtime.sampling import SamplingParams

from . import controls, link, stats
from .controls import Sampling
from .link import Opening
from .models import Offer
from .runs import INSTANT, Keep, Runs, Start, submit_with
from .streaming import Lines, Update, together, updates
from .theme import LATEX

EXAMPLES = [
    "Why do leaves fall in autumn?",
    "Write a haiku about the sea.",
    "Which is heavier, a kilogram of feathers or of iron?",
]
SIDES = ("Left", "Right")
ALIKE = 0.6
"""Texts that have less in common are not shown as one with differences: nobody could read it."""


def build(fleet: Fleet, sampling: Sampling, opening: Opening, offer: Offer) -> None:
    """Lays the tab out and connects its events."""
    gr.Markdown(
        "Ask two models, two recipes of one, or one at two temperatures, and see what differs. The other settings are "
        "shared.",
        elem_classes="hint",
    )
    with gr.Row(elem_classes="chips"):
        examples = [gr.Button(example, size="sm") for example in EXAMPLES]
    prompt = gr.Textbox(
        "", label="Prompt", placeholder="What shall both answer?", lines=1, max_lines=6, elem_id="compare-prompt"
    )
    offered = choices(fleet, offer)
    models, temperatures, answers, lines = [], [], [], []
    with gr.Row(elem_id="sides"):
        for i, side in enumerate(SIDES):
            with gr.Column(min_width=260):
                models.append(gr.Dropdown(offered, value=fleet.current.name, label=f"{side} model", interactive=True))
                temperatures.append(
                    gr.Slider(0, 2, value=0.8 * i, step=0.05, label=f"{side} temperature", interactive=True)
                )
                lines.append(gr.HTML(stats.IDLE))
                answers.append(
                    gr.Markdown(
                        label=f"{side} answer",
                        show_label=True,
                        container=True,
                        min_height=140,
                        latex_delimiters=LATEX,
                        buttons=["copy"],
                        elem_classes="compare-answer",
                    )
                )
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Compare", variant="primary", elem_id="compare-start")
        stop = gr.Button("Stop", variant="stop", visible=False, elem_classes="stop-run")
        clear = gr.Button("Clear")
        share = gr.Button("Link")
    linked = gr.HTML("")
    line = gr.HTML(stats.IDLE, visible="hidden")  # Each side has a line of its own.
    difference = gr.HTML("", elem_id="difference")
    latest_state = gr.State([])

    def answer(prompt: str, left: str, right: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
            return runtime.instruct(prompt, params=params)

        temperatures, shared = values[:2], controls.values(*values[2:])
        sources = [
            updates(fleet, call, shared | {"temperature": temperature}, model)
            for model, temperature in zip((left, right), temperatures, strict=True)
        ]
        lines = [Lines() for _ in SIDES]
        with closing(together(sources)) as source:
            for latest in source:
                both = overall(latest)
                texts = [update.text for update in latest]
                shown = [line.show(update) for line, update in zip(lines, latest, strict=True)]
                yield *texts, *shown, latest, stats.line(both), both

    def keep(last: Update, latest: list[Update]) -> tuple[str, ...]:
        """Shows both sides as they ended, and what differs."""
        stopped = last.finish_reason is None and not last.error
        ended = [stats.ended(update, stopped) for update in latest]
        return *map(stats.line, ended), compare(ended)

    Runs(start, stop, line, locked=[clear, *models, *temperatures]).wire(
        answer,
        [prompt, *models, *temperatures, *sampling.components],
        [*answers, *lines, latest_state],
        [Start([start.click], lambda: ("", "", "", []), [], [*answers, difference, latest_state])],
        Keep(keep, [latest_state], [*lines, difference]),
    )
    submit_with(prompt, start)
    for button, example in zip(examples, EXAMPLES, strict=True):
        button.click(lambda example=example: example, None, prompt, **INSTANT)
    clear.click(
        lambda: ("", "", "", stats.IDLE, stats.IDLE, stats.IDLE, ""),
        None,
        [prompt, *answers, *lines, line, difference],
        **INSTANT,
    )
    texts = {"text": prompt, "left": models[0], "right": models[1]}
    link.wire(share, linked, "compare", texts, sampling)
    opening.fill("compare", texts)
    opening.opened.then(lambda: [gr.Dropdown(choices(fleet, offer)) for _ in SIDES], None, models, **INSTANT)


def choices(fleet: Fleet, offer: Offer) -> list[tuple[str, str]]:
    """What can be compared, title and name: every converted model and, where visitors may have models converted, the
    starter model in each recipe, which takes seconds."""
    models = {choice.name: titled(choice.title, choice.recipe) for choice in fleet.choices() if choice.converted}
    models[fleet.current.name] = titled(fleet.current.title, fleet.current.recipe)
    if offer == "all":
        for recipe in get_args(RecipeName):
            name = STARTER.name if recipe == STARTER.recipe else f"{STARTER.name}:{recipe}"
            models.setdefault(name, f"{titled(STARTER.title, recipe)}, made at first use")
    return [(title, name) for name, title in models.items()]


def titled(title: str, recipe: RecipeName | None) -> str:
    """A model's title with its recipe, which that of a model in another recipe than its own has already."""
    return title if not recipe or title.endswith(f" {recipe}") else f"{title} {recipe}"


def overall(latest: Sequence[Update]) -> Update:
    """The state of both together: an error of one, else one that goes on, else one that is over."""
    running = [update for update in latest if not (update.finish_reason or update.error)]
    failed = [update for update in latest if update.error]
    return (running or failed or list(latest))[0]


def compare(sides: Sequence[Update]) -> str:
    """What differs between two answers, as HTML: their figures, then their words."""
    figures = [side.stats for side in sides]
    if not all(figures):
        return ""
    rows = (
        ("Tokens written", [f"{stats.generated_tokens:,}" for stats in figures if stats]),
        ("Tokens per second", [f"{stats.decode_tokens_per_second or 0:,.0f}" for stats in figures if stats]),
        ("First token after", [f"{stats.time_to_first_token_s or 0:.2f} s" for stats in figures if stats]),
    )
    body = "".join(f"<tr><th scope=row>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
                   for name, cells in rows)  # fmt: skip
    head = "".join(f"<th scope=col>{side}</th>" for side in SIDES)
    return f"<table><tr><td></td>{head}</tr>{body}</table>{differing(*(side.text for side in sides))}"


def differing(left: str, right: str) -> str:
    """The words that two texts share and those that only one has, as HTML."""
    if left == right:
        return "<p>Both wrote the same text.</p>"
    a, b = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (left, right))
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if (shared := matcher.ratio()) < ALIKE:
        return f'<p class="words">The answers share {shared:.0%} of their words.</p>'
    parts = []
    for kind, i, j, k, n in matcher.get_opcodes():
        if kind == "equal":
            parts.append(escape("".join(a[i:j])))
            continue
        if j > i:
            parts.append(f"<del>{escape(''.join(a[i:j]))}</del>")
        if n > k:
            parts.append(f"<ins>{escape(''.join(b[k:n]))}</ins>")
    return f'<p class="words">{"".join(parts)}</p><p class="hint"><del>only left</del> <ins>only right</ins></p>'
