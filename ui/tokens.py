"""The tokens view: a completion as the model chose it, token by token, with what it could have chosen instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from falcon_runtime.chunk import TokenLogprobs

if TYPE_CHECKING:
    from .streaming import Update

ALTERNATIVES = 10
"""The likeliest tokens at each place that are kept."""
SHADES = (0.9, 0.6, 0.3, 0.1)
"""Tokens at least as likely as the first are not coloured; each step down is a stronger colour."""
EMPTY = '<p class="empty">Generate something: every token then shows how likely the model found it.</p>'
HINT = '<p class="hint">Choose a token to see what else could have come.</p>'

Decode = Callable[[Sequence[int]], str]
"""Token ids to text: `FalconRuntime.decode`."""


@dataclass(frozen=True)
class Token:
    """One token of a completion."""

    id: int
    text: str
    probability: float
    alternatives: tuple[tuple[int, str, float], ...] = ()
    """The likeliest tokens at this place: id, text, probability."""
    forced: bool = False
    """Whether the visitor chose it."""


@dataclass(frozen=True)
class Completion:
    """A text that the model goes on with, and the tokens that have come so far."""

    beginning: str = ""
    prompt: tuple[int, ...] = ()
    """The tokens of `beginning`; empty until the engine has them."""
    tokens: tuple[Token, ...] = ()
    model: str = ""
    """The name of the model whose tokens they are."""

    @property
    def ids(self) -> list[int]:
        """All tokens, the prompt's first."""
        return [*self.prompt, *(token.id for token in self.tokens)]

    def text(self, decode: Decode) -> str:
        return self.beginning + decode([token.id for token in self.tokens])

    def extended(self, update: Update, decode: Decode) -> Completion:
        """With what a run from here has brought; the same where it is not from here."""
        if not update.logprobs or (self.prompt and len(self.ids) != len(update.prompt)):
            return self
        new = tuple(_token(entry, decode) for entry in update.logprobs)
        return replace(self, prompt=self.prompt or update.prompt, tokens=self.tokens + new, model=update.model)

    def forked(self, place: int, id: int) -> Completion:
        """The completion up to `place`, where token `id` comes instead, one of the alternatives there."""
        kept, there = self.tokens[:place], self.tokens[place]
        text, probability = next((text, share) for other, text, share in there.alternatives if other == id)
        return replace(self, tokens=(*kept, Token(id, text, probability, there.alternatives, forced=True)))


def _token(entry: TokenLogprobs, decode: Decode) -> Token:
    alternatives = tuple((id, decode([id]), math.exp(logprob)) for id, logprob in entry.top)
    return Token(entry.token_id, decode([entry.token_id]), math.exp(entry.logprob), alternatives)


def view(completion: Completion, chosen: int | None = None) -> str:
    """The tokens as HTML: each a button, coloured by its probability, above a plot of their surprise."""
    tokens = completion.tokens
    if not tokens:
        return EMPTY
    buttons = "".join(_button(i, token, i == chosen) for i, token in enumerate(tokens))
    # Whoever reads a long prompt here wants its end.
    beginning = completion.beginning
    beginning = f"…{beginning[-300:]}" if len(beginning) > 300 else beginning
    bits = [surprise(token) for token in tokens]
    mean = sum(bits) / len(bits)
    summary = (
        f"{len(completion.prompt):,} tokens of prompt, {len(tokens):,} written. "
        f"On average {mean:.2f} bits of surprise, a perplexity of {2**mean:.2f}."
    )
    return (
        f'<p class="summary">{summary}</p><p class="tokens"><span class="given">{escape(beginning)}</span>{buttons}</p>'
        f"{_legend()}{_plot(bits, summary)}"
    )


def alternatives(completion: Completion, place: int) -> str:
    """What could have come at a place, as HTML: each alternative a button that forks there."""
    token = completion.tokens[place]
    rows = "".join(
        f'<li><button type="button" data-place="{place}" data-id="{id}"{"" if text else " disabled"}'
        f"{' aria-current=true' if id == token.id else ''}>"
        f'<span class="word">{escape(visible(text))}</span><span class="bar"><i style="width:{share:.1%}"></i></span>'
        f'<span class="share">{share:.1%}</span></button></li>'
        for id, text, share in token.alternatives
    )
    return (
        f'<p>Instead of <b class="word">{escape(visible(token.text))}</b> ({token.probability:.1%}), the model could '
        f"go on with one of these. Choosing one writes on from there.</p><ol>{rows}</ol>"
    )


def visible(text: str) -> str:
    """A token's text with what cannot be seen made visible."""
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "end of text"


def surprise(token: Token) -> float:
    """-log2 of the token's probability, in bits (Shannon, 1948)."""
    return -math.log2(max(token.probability, 1e-12))


def _shade(probability: float) -> int:
    return sum(probability < bound for bound in SHADES)


def _button(place: int, token: Token, chosen: bool) -> str:
    kind = f"p{_shade(token.probability)}" + " forced" * token.forced + " chosen" * chosen
    # A line break alone has no width to click on.
    text = escape(token.text).replace("\n", "↵\n") or "␃"
    return f'<button type="button" class="{kind}" data-place="{place}" title="{token.probability:.1%}">{text}</button>'


def _legend() -> str:
    bounds = [1.0, *SHADES, 0.0]
    steps = "".join(
        f'<span class="p{i}">{low:.0%} to {high:.0%}</span>' for i, (high, low) in enumerate(pairwise(bounds))
    )
    return f'<p class="legend">Likeliness {steps}</p>'


def _plot(bits: Sequence[float], summary: str) -> str:
    """Bars, one a token, as SVG."""
    top = max(8.0, *bits)
    bars = "".join(
        f'<rect x="{i}" y="{top - bit:.2f}" width=".8" height="{bit:.2f}"><title>{bit:.1f} bits</title></rect>'
        for i, bit in enumerate(bits)
    )
    size = f"0 0 {max(len(bits), 40)} {top:.2f}"
    return (
        f'<figure><svg role="img" aria-label="Surprise per token. {summary}" viewBox="{size}" '
        f'preserveAspectRatio="none">{bars}</svg><figcaption>Surprise of each token, 0 to {top:.0f} bits</figcaption>'
        "</figure>"
    )
