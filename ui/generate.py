"""The Generate tab: one text that the model goes on with, and a look at every choice that it makes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.runtime import Generation
from falcon_runtime.sampling import SamplingParams

from . import controls, link, stats, tokens
from .chips import Chips
from .clearing import Clearing
from .controls import Sampling
from .link import Opening
from .runs import INSTANT, Keep, Runs, Start
from .streaming import Lines, together, updates
from .tokens import Completion
from .update import Update

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
    gr.Markdown(
        "Write a beginning; the model goes on from its last word. Edit, and let it continue. Shift + Enter generates.",
        elem_classes="hint",
    )
    beginnings = Chips(lambda: fleet.current.defaults.examples.generate, opening)
    text = gr.Textbox("", label="Text", placeholder="Once upon a time…", lines=8, max_lines=24, elem_id="generate-text")
    line = gr.HTML(stats.IDLE)
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Generate", variant="primary", elem_id="generate-start", elem_classes="continue")
        stop = gr.Button("Stop", variant="stop", visible=False, elem_classes="stop-run")
        retry = gr.Button("Retry")
        undo = gr.Button("Undo")
        clearing = Clearing()
        share = gr.Button("Link")
    linked = gr.HTML("")
    with gr.Accordion("For engineers", open=False):
        engineering = [
            gr.Textbox(**controls.words("stop", " One per line; \\n means a line break.", value=""), lines=2),
            gr.Textbox(
                **controls.words("logit_bias", " One per line, such as: 2413 = 5, or ' castle' = -100.", value=""),
                lines=2,
            ),
            gr.Slider(
                1,
                MAX_COMPLETIONS,
                value=1,
                step=1,
                label="Completions",
                info="Write so many at once and keep the one that the model finds likeliest; the others can be chosen.",
            ),
        ]
    others = gr.HTML("", elem_id="completions", js_on_load=CLICKS)
    with gr.Accordion("Tokens", elem_id="tokens"):
        trail = gr.HTML("", elem_id="trail", js_on_load=CLICKS)
        view = gr.HTML(tokens.EMPTY, elem_id="token-view", js_on_load=CLICKS)
        alternatives = gr.HTML("", elem_id="alternatives", js_on_load=CLICKS)
    completion, earlier, candidates = gr.State(Completion()), gr.State([]), gr.State([])

    def answer(begun: Completion, stop: str, bias: str, count: int, *values: Any) -> Iterator[tuple[Any, ...]]:
        def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
            if begun.tokens and begun.model != runtime.name:
                raise InvalidRequest("These tokens are another model's, which was in use before. Generate again first.")
            params = SamplingParams(**params.model_dump() | {"logit_bias": read_bias(bias, runtime)})
            return runtime.generate(begun.ids if begun.tokens else begun.beginning, params)

        sampling = controls.values(*values) | {"stop": read_stops(stop), "logprobs": tokens.ALTERNATIVES}
        written = begun.text(fleet.decoder(begun.model)) if begun.tokens else begun.beginning
        due, lines = 0.0, Lines()
        sources = [updates(fleet, call, sampling | another_seed(sampling, i)) for i in range(int(count))]
        with closing(together(sources)) as source:
            for latest in source:
                over = all(update.finish_reason or update.error for update in latest)
                update, *rest = sorted(latest, key=mean_logprob, reverse=True) if over else latest
                if not over:  # Of several, the one that is shown may have ended before the others.
                    update = replace(update, finish_reason=None, error="")
                shown: Any = gr.skip()
                if update.logprobs and (now := time.monotonic()) > due and not over:
                    shown = tokens.view(begun.extended(update, fleet.decoder(update.model)))
                    # Long texts take long to draw: that must not become all that the server does.
                    due = now + max(VIEW_INTERVAL_S, 10 * (time.monotonic() - now))
                yield written + update.text, shown, rest if over else [], lines.show(update), update

    def keep(last: Update, begun: Completion, earlier: list[Snapshot], rest: list[Update]) -> tuple[Any, ...]:
        """Shows a run that is over: its tokens, the way to them, and what else was written."""
        whole = begun.extended(last, fleet.decoder(last.model))
        return whole, show_trail(earlier), tokens.view(whole), show_others(rest)

    def choose_token(completion: Completion, event: gr.EventData) -> tuple[str, str]:
        """Shows what could have come instead of the token that was clicked."""
        if event.place >= len(completion.tokens):  # It is still being written.
            return gr.skip(), gr.skip()
        return tokens.view(completion, event.place), tokens.alternatives(completion, event.place)

    def fork(text: str, completion: Completion, earlier: list[Snapshot], event: gr.EventData) -> tuple[Any, ...]:
        """Puts the alternative that was clicked in the place of a token, for a run from there."""
        forked = completion.forked(event.place, event.id, fleet.decoder(completion.model))
        label = forked.tokens[-1].text
        return forked, [*earlier, Snapshot(text, completion, forked, label)], "", ""

    def use_other(
        text: str, completion: Completion, earlier: list[Snapshot], rest: list[Update], event: gr.EventData
    ) -> tuple[Any, ...]:
        """Takes another of the completions that were written at once."""
        begun = earlier[-1].begun
        decode = fleet.decoder(rest[event.place].model)
        whole = begun.extended(rest[event.place], decode)
        written = whole.text(decode)
        rest = [*rest[: event.place], *rest[event.place + 1 :]]
        return written, whole, [*earlier, Snapshot(text, completion, begun, "")], tokens.view(whole), "", rest

    runs = Runs(start, stop, line, locked=[text, retry, undo, *clearing.buttons, *beginnings.buttons], again="Continue")
    runs.wire(
        answer,
        [completion, *engineering, *sampling.components],
        [text, view, candidates],
        [
            Start(
                [start.click, text.submit],
                begin,
                [text, completion, earlier],
                [completion, earlier, others, alternatives],
            ),
            Start([retry.click], begin_again, [text, completion, earlier], [completion, earlier, others, alternatives]),
            Start(
                [alternatives.click],
                fork,
                [text, completion, earlier],
                [completion, earlier, others, alternatives],
            ),
        ],
        Keep(keep, [completion, earlier, candidates], [completion, trail, view, others]),
    )
    page = [text, completion, earlier, start, trail, view, alternatives, others]
    view.click(choose_token, completion, [view, alternatives], **INSTANT)
    others.click(
        use_other,
        [text, completion, earlier, candidates],
        [text, completion, earlier, view, others, candidates],
        **INSTANT,
    )
    undo.click(undo_run, [text, completion, earlier], page, **INSTANT)
    trail.click(walk_back, [text, completion, earlier], page, **INSTANT)
    clearing.wire(
        [*page, line, candidates],
        [*show_page("", Completion(), []), stats.IDLE, []],
        [text],
        [start.click, text.submit, *beginnings.clicks],
    )
    beginnings.click(lambda beginning: show_page(beginning, Completion(), []), [], page)
    link.wire(share, linked, "generate", {"text": text}, sampling)
    opening.fill("generate", {"text": text})


def begin(text: str, completion: Completion, earlier: list[Snapshot]) -> tuple[Any, ...]:
    """A run from the text as it stands."""
    begun = Completion(text)
    return begun, [*earlier, Snapshot(text, completion, begun, "")], "", ""


def begin_again(text: str, completion: Completion, earlier: list[Snapshot]) -> tuple[Any, ...]:
    """The last run once more."""
    if not earlier:
        return begin(text, completion, earlier)
    return earlier[-1].begun, earlier, "", ""


def undo_run(text: str, completion: Completion, earlier: list[Snapshot]) -> tuple[Any, ...]:
    """Takes the last run back."""
    if not earlier:
        return show_page(text, completion, earlier)
    return show_page(earlier[-1].text, earlier[-1].completion, earlier[:-1])


def walk_back(text: str, completion: Completion, earlier: list[Snapshot], event: gr.EventData) -> tuple[Any, ...]:
    """Goes back to before the run of the trail that was clicked."""
    snapshot = earlier[event.place]
    return show_page(snapshot.text, snapshot.completion, earlier[: event.place])


def show_page(text: str, completion: Completion, earlier: list[Snapshot]) -> tuple[Any, ...]:
    """All of the tab, without alternatives and other completions."""
    label = "Continue" if earlier else "Generate"
    return text, completion, earlier, label, show_trail(earlier), tokens.view(completion), "", ""


def show_trail(earlier: Sequence[Snapshot]) -> str:
    """The forks that led here, as HTML: each a button that goes back to before it."""
    forks = [(place, snapshot.label) for place, snapshot in enumerate(earlier) if snapshot.label]
    steps = "".join(
        f'<li><button type="button" data-place="{place}">{escape(tokens.visible(label))}</button></li>'
        for place, label in forks
    )
    return f"<p>Forks so far; click one to go back to before it:</p><ol>{steps}</ol>" if forks else ""


def show_others(rest: Sequence[Update]) -> str:
    """The other completions as HTML, the likeliest first."""
    items = "".join(
        f'<li><button type="button" data-place="{i}"><span class="share">{mean_logprob(update):.2f}</span>'
        f"{escape(update.text.strip()[:300])}</button></li>"
        for i, update in enumerate(rest)
        if update.text
    )
    return f"<p>Also written, with the mean log-probability of a token:</p><ol>{items}</ol>" if items else ""


def mean_logprob(update: Update) -> float:
    """The mean log-probability of the answer's tokens, in nats."""
    return sum(token.logprob for token in update.logprobs) / len(update.logprobs) if update.logprobs else -float("inf")


def another_seed(sampling: dict[str, Any], number: int) -> dict[str, Any]:
    """The seed of one of several completions, where there is one: the same for all would give the same text."""
    seed = sampling["seed"]
    return {"seed": int(seed) + number} if seed and seed.isdecimal() else {}


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
            raise InvalidRequest(f"logit_bias: {line!r} is not of the form: token = bias.") from None
        if token.isdecimal():
            biases[int(token)] = value
            continue
        ids = runtime.tokenize(token.strip("'\""))
        if len(ids) != 1:
            raise InvalidRequest(
                f"logit_bias: {token} is {len(ids)} tokens of this model, not one. Give one token, or token ids."
            )
        biases[ids[0]] = value
    return biases
