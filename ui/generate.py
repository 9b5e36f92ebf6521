"""The Generate tab: one text that the model goes on with, and a look at every choice that it makes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from html import escape
from typing import Any, NamedTuple

import gradio as gr
from gradio.components import Component

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
from falcon_runtime.sampling import SamplingParams

from . import controls, link, stats, tokens, words
from .chips import Chips
from .clearing import Clearing
from .controls import Sampling
from .link import Opening
from .runs import INSTANT, LATEST, Keep, Runs, Start
from .streaming import Lines, together, updates
from .tokens import Completion
from .update import Update
from .words import say

MAX_COMPLETIONS = 4
VIEW_INTERVAL_S = 0.4
"""The tokens view has a button a token: drawing it as often as the text would cost more than it shows."""
CLICKS = """element.addEventListener('click', event => {
  const button = event.target.closest('[data-place]')
  if (button) trigger('click', {place: +button.dataset.place, id: +(button.dataset.id ?? -1)})
})
element.addEventListener('keydown', event => {
  if (!['Enter', ' '].includes(event.key) || !event.target.matches('span[data-place]')) return
  event.preventDefault()
  event.target.click()
})"""
"""Tells the server which of an HTML component's buttons was clicked, or pressed with a key."""


class Prepared(NamedTuple):
    """What a run goes on from, and what is taken away for it."""

    completion: Completion
    earlier: "list[Snapshot]"
    others: str = ""
    alternatives: str = ""


class Progress(NamedTuple):
    """A run, at one moment."""

    text: str
    tokens: Any
    candidates: list[Update]
    """What else was written, when the run is over."""
    line: Any
    last: Update


class Kept(NamedTuple):
    """A run that is over."""

    completion: Completion
    trail: str
    tokens: str
    others: str


class Taken(NamedTuple):
    """Another of the completions that were written at once."""

    text: str
    completion: Completion
    earlier: "list[Snapshot]"
    tokens: str
    others: str
    candidates: list[Update]


class Shown(NamedTuple):
    """All of the tab."""

    text: str
    completion: Completion
    earlier: "list[Snapshot]"
    label: str
    """Of the start button."""
    trail: str
    tokens: str
    alternatives: str = ""
    others: str = ""


class Snapshot(NamedTuple):
    """What there was before a run."""

    text: str
    completion: Completion
    begun: Completion
    """What the run went on from."""
    label: str
    """What it did, for the trail: the token that was chosen, or nothing."""


def build(fleet: Fleet, sampling: Sampling, opening: Opening) -> None:
    """Lays the tab out and connects its events."""
    tab = GenerateTab(fleet, opening)
    tab.connect_runs(sampling)
    tab.connect_tokens()
    tab.connect_clearing()
    link.wire(tab.share, tab.linked, "generate", {"text": tab.text}, sampling)
    opening.fill("generate", {"text": tab.text})


class GenerateTab:
    """The components of the tab, and the functions that their events call."""

    def __init__(self, fleet: Fleet, opening: Opening) -> None:
        self._fleet = fleet
        gr.Markdown(say("generate.hint"), elem_classes="hint")
        self.beginnings = Chips(lambda: fleet.current.defaults.examples.generate, opening)
        self.text = gr.Textbox(
            "",
            label=say("generate.text"),
            placeholder=say("generate.once"),
            lines=8,
            max_lines=24,
            elem_id="generate-text",
        )
        self.line = gr.HTML(stats.idle())
        with gr.Row(elem_classes="actions"):
            self.start = gr.Button(
                say("generate.generate"), variant="primary", elem_id="generate-start", elem_classes="continue"
            )
            self.stop = gr.Button(say("runs.stop"), variant="stop", visible=False, elem_classes="stop-run")
            self.retry = gr.Button(say("generate.retry"), elem_id="generate-retry")
            self.undo = gr.Button(say("generate.undo"))
            self.clearing = Clearing()
            self.share = gr.Button(say("link.link"))
        self.linked = gr.HTML("")
        with gr.Accordion(say("generate.engineers"), open=False):
            self.engineering = engineers_controls()
        self.others = gr.HTML("", elem_id="completions", js_on_load=CLICKS)
        with gr.Accordion(say("tokens.tokens"), elem_id="tokens"):
            self.trail = gr.HTML("", elem_id="trail", js_on_load=CLICKS)
            self.view = gr.HTML(tokens.empty(), elem_id="token-view", js_on_load=CLICKS)
            self.alternatives = gr.HTML("", elem_id="alternatives", js_on_load=CLICKS)
        self.completion, self.earlier, self.candidates = gr.State(Completion()), gr.State([]), gr.State([])
        self.shown = [self.text, self.completion, self.earlier, self.start, self.trail, self.view, self.alternatives]
        self.shown.append(self.others)
        """The components of `Shown`."""

    def connect_runs(self, sampling: Sampling) -> None:
        now = [self.text, self.completion, self.earlier]
        prepared = [self.completion, self.earlier, self.others, self.alternatives]
        locked = [self.text, self.retry, self.undo, *self.clearing.buttons, self.beginnings.row]
        Runs(self.start, self.stop, self.line, locked=locked, again="generate.continue").wire(
            self._answer,
            [self.completion, *self.engineering, *sampling.components],
            [self.text, self.view, self.candidates],
            [
                Start([self.start.click, self.text.submit], begin, now, prepared),
                Start([self.retry.click], begin_again, now, prepared),
                Start([self.alternatives.click], self._fork, now, prepared),
            ],
            Keep(
                self._keep,
                [self.completion, self.earlier, self.candidates],
                [self.completion, self.trail, self.view, self.others],
            ),
        )

    def connect_tokens(self) -> None:
        now = [self.text, self.completion, self.earlier]
        chosen = self.view.click(choose_token, self.completion, [self.view, self.alternatives], **LATEST)
        chosen.then(None, js="() => falcon.reveal('alternatives')", **INSTANT)
        self.others.click(
            self._use_other, [*now, self.candidates], [*now, self.view, self.others, self.candidates], **INSTANT
        )
        self.undo.click(undo_run, now, self.shown, **INSTANT)
        self.trail.click(walk_back, now, self.shown, **INSTANT)

    def connect_clearing(self) -> None:
        self.clearing.wire(
            [*self.shown, self.line, self.candidates],
            lambda: [*show_page("", Completion(), []), stats.idle(), []],
            [self.text],
            [self.start.click, self.text.submit, self.beginnings.row.click],
        )
        self.beginnings.click(lambda beginning: show_page(beginning, Completion(), []), [], self.shown)

    def _answer(self, begun: Completion, stop: str, bias: str, count: int, *values: Any) -> Iterator[Progress]:
        def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
            if begun.tokens and begun.model != runtime.name:
                raise InvalidRequest(say("generate.other_model"))
            params = SamplingParams(**params.model_dump() | {"logit_bias": read_bias(bias, runtime)})
            return runtime.generate(begun.ids if begun.tokens else begun.beginning, params)

        sampling = controls.values(*values) | {"stop": read_stops(stop), "logprobs": tokens.ALTERNATIVES}
        written = begun.text(self._fleet.decoder(begun.model)) if begun.tokens else begun.beginning
        due, lines = 0.0, Lines()
        sources = [updates(self._fleet, call, sampling | another_seed(sampling, i)) for i in range(int(count))]
        with closing(together(sources)) as source:
            for latest in source:
                over = all(update.finish_reason or update.error for update in latest)
                update, *rest = sorted(latest, key=mean_logprob, reverse=True) if over else latest
                if not over:  # Of several, the one that is shown may have ended before the others.
                    update = replace(update, finish_reason=None, error="")
                shown: Any = gr.skip()
                if update.logprobs and (now := time.monotonic()) > due and not over:
                    shown = tokens.view(begun.extended(update, self._fleet.decoder(update.model)))
                    # Long texts take long to draw: that must not become all that the server does.
                    due = now + max(VIEW_INTERVAL_S, 10 * (time.monotonic() - now))
                yield Progress(written + update.text, shown, rest if over else [], lines.show(update), update)

    def _keep(self, last: Update, begun: Completion, earlier: list[Snapshot], rest: list[Update]) -> Kept:
        """Shows a run that is over: its tokens, the way to them, and what else was written."""
        whole = begun.extended(last, self._fleet.decoder(last.model))
        return Kept(whole, show_trail(earlier), tokens.view(whole), show_others(rest))

    def _fork(self, text: str, completion: Completion, earlier: list[Snapshot], event: gr.EventData) -> Prepared:
        """Puts the alternative that was clicked in the place of a token, for a run from there."""
        forked = completion.forked(event.place, event.id, self._fleet.decoder(completion.model))
        return Prepared(forked, [*earlier, Snapshot(text, completion, forked, forked.tokens[-1].text)])

    def _use_other(
        self,
        text: str,
        completion: Completion,
        earlier: list[Snapshot],
        rest: list[Update],
        event: gr.EventData,
    ) -> Taken:
        """Takes another of the completions that were written at once."""
        begun, decode = earlier[-1].begun, self._fleet.decoder(rest[event.place].model)
        whole = begun.extended(rest[event.place], decode)
        return Taken(
            text=whole.text(decode),
            completion=whole,
            earlier=[*earlier, Snapshot(text, completion, begun, "")],
            tokens=tokens.view(whole),
            others="",
            candidates=[*rest[: event.place], *rest[event.place + 1 :]],
        )


def engineers_controls() -> list[Component]:
    """Stop texts, biases, and how many completions to write at once."""
    return [
        gr.Textbox("", **controls.described("stop"), lines=2),
        gr.Textbox("", **controls.described("logit_bias"), lines=2),
        gr.Slider(
            1,
            MAX_COMPLETIONS,
            value=1,
            step=1,
            label=say("generate.completions"),
            info=say("generate.completions.info"),
        ),
    ]


def choose_token(completion: Completion, event: gr.EventData) -> tuple[str, str]:
    """Shows what could have come instead of the token that was clicked."""
    if event.place >= len(completion.tokens):  # It is still being written.
        return gr.skip(), gr.skip()
    return tokens.view(completion, event.place), tokens.alternatives(completion, event.place)


def begin(text: str, completion: Completion, earlier: list[Snapshot]) -> Prepared:
    """A run from the text as it stands."""
    begun = Completion(text)
    return Prepared(begun, [*earlier, Snapshot(text, completion, begun, "")])


def begin_again(text: str, completion: Completion, earlier: list[Snapshot]) -> Prepared:
    """The last run once more."""
    if not earlier:
        return begin(text, completion, earlier)
    return Prepared(earlier[-1].begun, earlier)


def undo_run(text: str, completion: Completion, earlier: list[Snapshot]) -> Shown:
    """Takes the last run back."""
    if not earlier:
        return show_page(text, completion, earlier)
    return show_page(earlier[-1].text, earlier[-1].completion, earlier[:-1])


def walk_back(text: str, completion: Completion, earlier: list[Snapshot], event: gr.EventData) -> Shown:
    """Goes back to before the run of the trail that was clicked."""
    snapshot = earlier[event.place]
    return show_page(snapshot.text, snapshot.completion, earlier[: event.place])


def show_page(text: str, completion: Completion, earlier: list[Snapshot]) -> Shown:
    """All of the tab, without alternatives and other completions."""
    label = say("generate.continue" if earlier else "generate.generate")
    return Shown(text, completion, earlier, label, show_trail(earlier), tokens.view(completion))


def show_trail(earlier: Sequence[Snapshot]) -> str:
    """The forks that led here, as HTML: each a button that goes back to before it."""
    forks = [(place, snapshot.label) for place, snapshot in enumerate(earlier) if snapshot.label]
    steps = "".join(
        f'<li><button type="button" data-place="{place}">{escape(tokens.visible(label))}</button></li>'
        for place, label in forks
    )
    return f"<p>{say('generate.forks')}</p><ol>{steps}</ol>" if forks else ""


def show_others(rest: Sequence[Update]) -> str:
    """The other completions as HTML, the likeliest first."""
    items = "".join(
        f'<li><button type="button" data-place="{i}"><span class="share">{words.number(mean_logprob(update), 2)}</span>'
        f"{escape(update.text.strip()[:300])}</button></li>"
        for i, update in enumerate(rest)
        if update.text
    )
    return f"<p>{say('generate.others')}</p><ol>{items}</ol>" if items else ""


def mean_logprob(update: Update) -> float:
    """The mean log-probability of the answer's tokens, in nats."""
    return sum(token.logprob for token in update.logprobs) / len(update.logprobs) if update.logprobs else -float("inf")


def another_seed(sampling: dict[str, Any], number: int) -> dict[str, Any]:
    """The seed of one of several completions, where there is one: the same for all would give the same text."""
    seed = sampling["seed"]
    return {"seed": int(seed) + number} if seed and _is_number(seed) else {}


def _is_number(text: str) -> bool:
    """Whether it is a whole number of no more digits than any seed or token has."""
    return text.isdecimal() and len(text) < 20


def read_stops(text: str) -> list[str]:
    """Stop texts, one per line."""
    return [line.replace("\\n", "\n") for line in text.splitlines() if line]


def read_bias(text: str, runtime: FalconRuntime) -> dict[int, float]:
    """Biases, one per line: a token's id, or its text in quotes, and its bias. Errors: InvalidRequest."""
    biases = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        token, _, bias = line.rpartition("=")
        token = token.strip()
        try:
            value = float(bias)
        except ValueError:
            raise InvalidRequest(say("generate.bias_form", line=repr(line))) from None
        if _is_number(token):
            biases[int(token)] = value
            continue
        ids = runtime.tokenize(token.strip("'\""))
        if len(ids) != 1:
            raise InvalidRequest(say("generate.bias_token", token=token, count=len(ids)))
        biases[ids[0]] = value
    return biases
