"""The tokens view: a completion as the model chose it, token by token, with what it could have chosen instead."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from unicodedata import category

from falcon_runtime.chunk import TokenLogprobs

from . import words
from .update import Update
from .words import say

ALTERNATIVES = 10
"""The likeliest tokens at each place that are kept."""
CHARACTER_TOKENS = 12
"""Tokens that are looked at to make a character whole: it has four bytes, but may share its tokens with others."""
SHADES = (0.9, 0.6, 0.3, 0.1)
"""Tokens at least as likely as the first are not coloured; each step down is a stronger colour."""
HALF = "\N{REPLACEMENT CHARACTER}"
"""What bytes decode to that are no whole character."""

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
    shown: str | None = None
    """What is shown of it: its text, or the character that it begins and the tokens after it end; None for these."""


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
        """All of it, but for a character at the end that is not whole yet."""
        return self.beginning + decode([token.id for token in self.tokens]).rstrip(HALF)

    def extended(self, update: Update, decode: Decode) -> "Completion":
        """With what a run from here has brought; the same where it is not from here."""
        if not update.logprobs or (self.prompt and len(self.ids) != len(update.prompt)):
            return self
        new = tuple(_token(entry, decode) for entry in update.logprobs)
        tokens = _with_characters((*self.tokens, *new), decode)
        return replace(self, prompt=self.prompt or update.prompt, tokens=tokens, model=update.model)

    def forked(self, place: int, id: int, decode: Decode) -> "Completion":
        """The completion up to `place`, where token `id` comes instead, one of the alternatives there."""
        kept, there = self.tokens[:place], self.tokens[place]
        text, probability = next((text, share) for other, text, share in there.alternatives if other == id)
        new = Token(id, text, probability, there.alternatives, forced=True)
        return replace(self, tokens=_with_characters((*kept, new), decode))

    def character(self, place: int) -> range:
        """The places of the tokens that are shown as one with the token at `place`."""
        joined = [token.shown is None for token in self.tokens]
        first = max(i for i in range(place + 1) if not joined[i])
        return range(first, next((i for i in range(first + 1, len(joined)) if not joined[i]), len(joined)))


def _with_characters(tokens: Sequence[Token], decode: Decode) -> tuple[Token, ...]:
    """The tokens with what is shown of each."""
    shown = list[Token]()
    groups = list[tuple[int, str]]()  # How many tokens, and their text.
    done = 0
    while done < len(tokens):
        count, text = _next_text(tokens[done : done + CHARACTER_TOKENS + 1], decode)
        done += count
        if groups and _joins(groups[-1][1], text):
            earlier, begun = groups.pop()
            count, text = earlier + count, begun + text
        groups.append((count, text))
    for count, text in groups:
        group = tokens[len(shown) : len(shown) + count]
        for i, token in enumerate(group):
            before = [other.id for other in group[:i]]
            shown.append(replace(_after(before, token, decode), shown=None if i else text))
    return tuple(shown)


def _after(before: list[int], token: Token, decode: Decode) -> Token:
    """The token, where those of its alternatives that are part of a character are what they make with those before."""

    def whole(id: int, text: str) -> str:
        return decode([*before, id]) if before and HALF in text else text

    choices = tuple((id, whole(id, text), share) for id, text, share in token.alternatives)
    return replace(token, alternatives=choices)


def _next_text(tokens: Sequence[Token], decode: Decode) -> tuple[int, str]:
    """How many of the tokens make up whole characters, and these. Of a text that ends within one, its bytes are one."""
    if HALF not in tokens[0].text:
        return 1, tokens[0].text
    ids = [token.id for token in tokens[:CHARACTER_TOKENS]]
    decoded = [(n, decode(ids[:n])) for n in range(1, len(ids) + 1)]
    unfinished = decoded[-1] if len(ids) == len(tokens) else (1, tokens[0].text)
    return next(((n, text) for n, text in decoded if HALF not in text), unfinished)


def _joins(before: str, text: str) -> bool:
    """Whether the text goes on with the character that is before it: accents, vowel signs, parts of an emoji."""
    joiner = "\N{ZERO WIDTH JOINER}"
    return bool(text and before.strip()) and (
        before.endswith(joiner) or text[0] == joiner or category(text[0])[0] == "M" or "🏻" <= text[0] <= "🏿"
    )


def _token(entry: TokenLogprobs, decode: Decode) -> Token:
    alternatives = tuple((id, decode([id]), math.exp(logprob)) for id, logprob in entry.top)
    return Token(entry.token_id, decode([entry.token_id]), math.exp(entry.logprob), alternatives)


def empty() -> str:
    """The view where there are no tokens yet."""
    return f'<p class="empty">{say("tokens.empty")}</p>'


def view(completion: Completion, chosen: int | None = None) -> str:
    """The tokens as HTML: each a button, coloured by its probability, above a plot of their surprise."""
    tokens = completion.tokens
    if not tokens:
        return empty()
    starts = [i for i, token in enumerate(tokens) if token.shown is not None]
    groups = [tokens[i:j] for i, j in pairwise([*starts, len(tokens)])]
    chosen_start = max((i for i in starts if chosen is not None and i <= chosen), default=None)
    chips = "".join(_chip(i, group, i == chosen_start) for i, group in zip(starts, groups, strict=True))
    # Whoever reads a long prompt here wants its end.
    beginning = completion.beginning
    beginning = f"…{beginning[-300:]}" if len(beginning) > 300 else beginning
    bits = [surprise(token) for token in tokens]
    mean = sum(bits) / len(bits)
    summary = say(
        "tokens.summary",
        prompt=len(completion.prompt),
        written=len(tokens),
        bits=words.number(mean, 2),
        perplexity=words.number(2**mean, 2),
    )
    return (
        f'<p class="summary">{summary}</p><p class="tokens" dir="auto"><span class="given">{escape(beginning)}</span>'
        f"{chips}</p>"
        f"{_legend()}{_plot(bits, summary)}"
    )


def alternatives(completion: Completion, place: int) -> str:
    """What could have come at a place, as HTML: each alternative a button that forks there. Of a character that several
    tokens make up, for each of them."""
    places = completion.character(place)
    many = len(places) > 1
    character = escape(visible(completion.tokens[places[0]].shown or ""))
    parts = [f"<p>{say('tokens.character', character=character, count=len(places))}</p>"] * many
    names = [say("tokens.nth", number=i - places[0] + 1) if many else "" for i in places]
    parts += [_choices(completion.tokens[i], i, name) for i, name in zip(places, names, strict=True)]
    return "".join(parts)


def _choices(token: Token, place: int, name: str) -> str:
    rows = "".join(
        f'<li><button type="button" data-place="{place}" data-id="{id}"{"" if text else " disabled"}'
        f"{' aria-current=true' if id == token.id else ''}>"
        f'<bdi class="word">{escape(visible(text))}</bdi><span class="bar"><i style="width:{share:.1%}"></i></span>'
        f'<span class="share">{words.percent(share, 1)}</span></button></li>'
        for id, text, share in token.alternatives
    )
    word = name or f'<bdi class="word">{escape(visible(token.text))}</bdi>'
    told = say("tokens.instead", token=word, share=words.percent(token.probability, 1))
    return f"<p>{told}</p><ol>{rows}</ol>"


def visible(text: str) -> str:
    """A token's text with what cannot be seen made visible."""
    if text and not text.strip(HALF):
        return say("tokens.part")
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or say("tokens.end")


def surprise(token: Token) -> float:
    """-log2 of the token's probability, in bits (Shannon, 1948)."""
    return -math.log2(max(token.probability, 1e-12))


def _shade(probability: float) -> int:
    return sum(probability < bound for bound in SHADES)


def _chip(place: int, group: Sequence[Token], chosen: bool) -> str:
    """A token, or those of one character, to be clicked. No `button`, since those keep letters from joining and lines
    from running from the right."""
    probability = math.prod(token.probability for token in group)
    forced = any(token.forced for token in group)
    kind = f"p{_shade(probability)}" + " forced" * forced + " chosen" * chosen
    # A line break alone has no width to click on.
    shown = re.sub(f"{HALF}+", "…", group[0].shown or "")
    text = escape(shown).replace("\n", "↵\n") or "␃"
    title = " × ".join(words.percent(token.probability, 1) for token in group)
    return f'<span role="button" tabindex="0" class="{kind}" data-place="{place}" title="{title}">{text}</span>'


def _legend() -> str:
    bounds = [1.0, *SHADES, 0.0]
    ranges = [say("tokens.range", low=words.percent(low), high=words.percent(high)) for high, low in pairwise(bounds)]
    steps = "".join(f'<span class="p{i}">{told}</span>' for i, told in enumerate(ranges))
    return f'<p class="legend">{say("tokens.probability")} {steps}</p>'


def _plot(bits: Sequence[float], summary: str) -> str:
    """Bars, one a token, as SVG."""
    top = max(8.0, *bits)
    bars = "".join(
        f'<rect x="{i}" y="{top - bit:.2f}" width=".8" height="{bit:.2f}"><title>{_bits(bit)}</title></rect>'
        for i, bit in enumerate(bits)
    )
    size = f"0 0 {max(len(bits), 40)} {top:.2f}"
    return (
        f'<figure><svg role="img" aria-label="{say("tokens.surprise", summary=summary)}" viewBox="{size}" '
        f'preserveAspectRatio="none">{bars}</svg>'
        f"<figcaption>{say('tokens.scale', bits=words.number(top))}</figcaption></figure>"
    )


def _bits(bits: float) -> str:
    return say("tokens.bits", bits=words.number(bits, 1))
