"""The Compare tab: one prompt, two answers side by side, from two models or at two temperatures."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from difflib import SequenceMatcher
from html import escape
from typing import Any, NamedTuple, get_args

import gradio as gr
from gradio.components import Component

from falcon_runtime import FalconRuntime
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.choosing import Offer
from falcon_runtime.models.manifest import RecipeName
from falcon_runtime.models.reading import Recipe
from falcon_runtime.sampling import SamplingParams

from . import answers, controls, link, stats, words
from .chips import Chips
from .clearing import Clearing
from .controls import Sampling
from .link import Opening
from .runs import INSTANT, Keep, Runs, Start, submit_with
from .streaming import Lines, Updates, together, updates
from .update import Update
from .words import say

SIDES = ("left", "right")
VOTES = ("left", "right", "equal")
FIGURES = ("prompt_tokens", "generated_tokens", "decode_tokens_per_second", "time_to_first_token_s")
"""What an exported file tells of a run's statistics."""
ALIKE = 0.6
"""Texts that have less in common are not shown as one with differences: nobody could read it."""


class Side(NamedTuple):
    """What one side is to write."""

    model: str
    settings: dict[str, Any]
    """Of `SamplingParams`."""
    prompt: str
    before: Update = Update()
    """What there is of its answer already."""
    goes_on: bool = True
    """False where the answer that there is was whole."""


def build(fleet: Fleet, sampling: Sampling, opening: Opening, offer: Offer) -> None:
    """Lays the tab out and connects its events."""
    tab = CompareTab(fleet, opening, offer)
    tab.connect_runs()
    tab.connect_clearing()
    tab.connect_export()
    texts = {"text": tab.prompt, "left": tab.models[0], "right": tab.models[1]}
    link.wire(tab.share, tab.linked, "compare", texts, sampling)

    def opened(kept: dict[str, Any]) -> list[Any]:
        told = link.given("compare", texts, kept)
        offered = choices(fleet, offer)
        names = [name for _, name in offered]
        models = [{"value": told[side]} if told.get(side) in names else {} for side in SIDES]
        return [told.get("text", gr.skip()), *(gr.update(choices=offered) | model for model in models)]

    opening.then(opened, [opening.kept], list(texts.values()))


class CompareTab:
    """The components of the tab, and the functions that their events call. Lists have one component for each side."""

    def __init__(self, fleet: Fleet, opening: Opening, offer: Offer) -> None:
        self._fleet = fleet
        gr.Markdown(say("compare.hint"), elem_classes="hint")
        self.examples = Chips(
            lambda: {example: example for example in fleet.current.defaults.examples.compare}, opening
        )
        self.prompt = gr.Textbox(
            "",
            label=say("compare.prompt"),
            placeholder=say("compare.what"),
            lines=1,
            max_lines=6,
            elem_id="compare-prompt",
        )
        self._lay_out_sides(choices(fleet, offer))
        with gr.Row(elem_classes="actions"):
            self.start = gr.Button(say("compare.compare"), variant="primary", elem_id="compare-start")
            self.stop = gr.Button(say("runs.stop"), variant="stop", visible=False, elem_classes="stop-run")
            self.clearing = Clearing()
            self.share = gr.Button(say("link.link"))
            self.resume = gr.Button(
                say("stats.continue"), visible="hidden", elem_id="compare-resume", elem_classes="continue"
            )
        self.linked = gr.HTML("")
        self.line = gr.HTML(stats.idle(), visible="hidden")  # Each side has a line of its own.
        self.difference = gr.HTML("", elem_id="difference")
        with gr.Row(visible=False, elem_id="verdict") as self.verdict:
            votes = [(say(f"compare.better.{vote}"), vote) for vote in VOTES]
            self.vote = gr.Radio(votes, label=say("compare.better"), scale=4, min_width=320)
            self.export = gr.Button(say("chat.export"), size="sm", scale=1)
        self.file = gr.Textbox(visible="hidden")
        self.sides, self.latest, self.ended = gr.State([]), gr.State([]), gr.State([])

    def _lay_out_sides(self, offered: list[tuple[str, str]]) -> None:
        self.models: list[gr.Dropdown] = []
        self.settings: list[dict[str, Component]] = []
        self.lines: list[gr.HTML] = []
        self.shown: list[gr.HTML] = []
        with gr.Row(elem_id="sides"):
            for i, side in enumerate(SIDES):
                with gr.Column(min_width=260):
                    self.models.append(
                        gr.Dropdown(
                            offered,
                            value=self._fleet.current.name,
                            label=say(f"compare.{side}.model"),
                            interactive=True,
                        )
                    )
                    self.settings.append(self._lay_out_settings(side, 0.8 * i))
                    self.lines.append(gr.HTML(stats.idle()))
                    self.shown.append(answers.block(say(f"compare.{side}.answer"), elem_classes="compare-answer"))

    def _lay_out_settings(self, side: str, temperature: float) -> dict[str, Component]:
        """All settings of a side, by their names in their order."""
        first = controls.defaults(self._fleet.current.defaults.sampling)
        told: dict[str, Any] = {"value": temperature, "label": say(f"compare.{side}.temperature"), "interactive": True}
        laid_out: dict[str, Component] = {"temperature": gr.Slider(0, 2, step=0.05, **told)}
        with gr.Accordion(say("compare.settings"), open=False):
            for name in controls.SLIDERS:
                if name != "temperature":
                    laid_out[name] = controls.slider(name, first)
            laid_out["seed"] = gr.Textbox("", **controls.described("seed"), placeholder=say("sampling.random"))
        return {name: laid_out[name] for name in controls.NAMES}

    def connect_runs(self) -> None:
        settings = [component for side in self.settings for component in side.values()]
        prepared = [*self.shown, self.difference, self.verdict, self.vote, self.sides, self.latest]
        locked = [*self.clearing.buttons, *self.models, *settings]
        Runs(self.start, self.stop, self.line, locked=locked).wire(
            self._answer,
            [self.sides],
            [*self.shown, *self.lines, self.latest],
            [
                Start([self.start.click], begin, [self.prompt, *self.models, *settings], prepared),
                Start([self.resume.click], go_on, [self.sides, self.ended], prepared),
            ],
            Keep(keep, [self.latest], [*self.shown, *self.lines, self.difference, self.verdict, self.ended]),
        )
        submit_with(self.prompt, self.start)

    def connect_clearing(self) -> None:
        self.examples.click(lambda example: example, [], [self.prompt])
        states = [self.sides, self.latest, self.ended]
        self.clearing.wire(
            [self.prompt, *self.shown, *self.lines, self.line, self.difference, self.vote, *states],
            lambda: ["", "", "", *[stats.idle()] * 3, "", None, [], [], []],
            [self.prompt],
            [self.start.click, self.examples.row.click],
        )

    def connect_export(self) -> None:
        self.export.click(to_json, [self.sides, self.ended, self.vote], self.file, **INSTANT).then(
            None, self.file, js="text => falcon.save('comparison.json', text)", **INSTANT
        )

    def _answer(self, sides: list[Side]) -> Iterator[tuple[Any, ...]]:
        lines = [Lines() for _ in sides]
        with closing(together([write(self._fleet, side) for side in sides])) as source:
            for latest in source:
                both = overall(latest)
                texts = [answers.render(update.text, live=not update.finish_reason) for update in latest]
                said = [line.show(update) for line, update in zip(lines, latest, strict=True)]
                yield *texts, *said, latest, stats.line(both), both


def keep(last: Update, latest: list[Update]) -> tuple[Any, ...]:
    """Shows both sides as they ended, and what differs."""
    stopped = last.finish_reason is None and not last.error
    ended = [stats.ended(update, stopped) for update in latest]
    texts = [answers.render(update.text) for update in ended] or [gr.skip() for _ in SIDES]
    said = [stats.line(update) for update in ended] or [gr.skip() for _ in SIDES]
    return *texts, *said, compare(ended) if ended else "", gr.Row(visible=bool(ended)), ended


def begin(prompt: str, left: str, right: str, *settings: Any) -> tuple[Any, ...]:
    """Empties both sides for a prompt; `settings` are the values of one side, then those of the other."""
    half = len(settings) // 2
    values = (controls.values(*settings[:half]), controls.values(*settings[half:]))
    sides = [Side(model, told, prompt) for model, told in zip((left, right), values, strict=True)]
    return "", "", "", gr.Row(visible=False), None, sides, []


def go_on(sides: list[Side], ended: list[Update]) -> tuple[Any, ...]:
    """Lets those sides go on that were stopped before their answer ended."""
    further = [
        side._replace(before=update, goes_on=stats.can_go_on(update)) for side, update in zip(sides, ended, strict=True)
    ]
    texts = (answers.render(update.text, live=True) for update in ended)
    return *texts, "", gr.Row(visible=False), gr.skip(), further, ended


def to_json(sides: Sequence[Side], ended: Sequence[Update], vote: str | None) -> str:
    """A comparison as a file: what was asked, what each side wrote and how, and which one the visitor prefers."""
    told = {
        name: {"model": side.model, "settings": side.settings, "answer": update.text, "stats": _figures(update)}
        for name, side, update in zip(SIDES, sides, ended, strict=False)
    }
    prompt = sides[0].prompt if sides else ""
    return json.dumps({"prompt": prompt, **told, "vote": vote}, ensure_ascii=False, indent=2) + "\n"


def _figures(update: Update) -> dict[str, Any]:
    return {name: getattr(update.stats, name) for name in FIGURES} if update.stats else {}


def write(fleet: Fleet, side: Side) -> Updates:
    """The updates of one side: with what there was of its answer, and that alone where it was whole."""
    before = side.before
    if not side.goes_on:
        yield before
        return

    def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
        return runtime.instruct(side.prompt, params=params, begun=before.text)

    with closing(updates(fleet, call, side.settings, side.model)) as source:
        for update in source:
            yield replace(update, text=before.text + update.text)


def choices(fleet: Fleet, offer: Offer) -> list[tuple[str, str]]:
    """What can be compared, title and name: every converted model and, where visitors may have models converted, the
    starter model in each recipe, which takes seconds."""
    models = {choice.name: titled(choice.title, choice.recipe) for choice in fleet.choices() if choice.converted}
    models[fleet.current.name] = titled(fleet.current.title, fleet.current.recipe)
    if offer == "all":
        for recipe in get_args(RecipeName):
            name = STARTER.name if recipe == STARTER.recipe else f"{STARTER.name}:{recipe}"
            models.setdefault(name, say("compare.made", title=titled(STARTER.title, recipe)))
    return [(title, name) for name, title in models.items()]


def titled(title: str, recipe: Recipe | None) -> str:
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
        (say("compare.written"), [words.number(stats.generated_tokens) for stats in figures if stats]),
        (say("compare.rate"), [words.number(stats.decode_tokens_per_second or 0) for stats in figures if stats]),
        (say("compare.first"), [seconds(stats.time_to_first_token_s or 0) for stats in figures if stats]),
    )
    body = "".join(f"<tr><th scope=row>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
                   for name, cells in rows)  # fmt: skip
    head = "".join(f"<th scope=col>{say(f'compare.{side}')}</th>" for side in SIDES)
    return f"<table><tr><td></td>{head}</tr>{body}</table>{differing(*(side.text for side in sides))}"


def seconds(time: float) -> str:
    return say("compare.seconds", seconds=words.number(time, 2))


def differing(left: str, right: str) -> str:
    """The words that two texts share and those that only one has, as HTML."""
    if left == right:
        return f"<p>{say('compare.same')}</p>"
    a, b = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (left, right))
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if (shared := matcher.ratio()) < ALIKE:
        return f'<p class="words">{say("compare.shared", share=words.percent(shared))}</p>'
    parts = []
    for kind, i, j, k, n in matcher.get_opcodes():
        if kind == "equal":
            parts.append(escape("".join(a[i:j])))
            continue
        if j > i:
            parts.append(f"<del>{escape(''.join(a[i:j]))}</del>")
        if n > k:
            parts.append(f"<ins>{escape(''.join(b[k:n]))}</ins>")
    only = f"<del>{say('compare.left.only')}</del> <ins>{say('compare.right.only')}</ins>"
    return f'<p class="words" dir="auto">{"".join(parts)}</p><p class="hint">{only}</p>'
