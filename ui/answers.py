"""Answers: the Markdown that a model writes, as HTML in which nothing runs, loads or covers anything."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline import image as read_image
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from . import formulas, words
from .words import say

MAX_CHARACTERS = 200_000
"""Longer texts are shown as they are, without Markdown."""
MAX_PARAGRAPH = 20_000
"""So are paragraphs that no person would write: some of them take seconds to parse."""
MAX_HIGHLIGHTED = 20_000
"""Characters of code; longer code is not coloured."""
LANGUAGES = frozenset(
    """
    asm awk bash bat batch c c# c++ cmake cpp cs csharp css cuda dart diff docker dockerfile elixir erlang fortran
    go golang graphql groovy haskell hs html http ini java javascript js json json5 jsx julia kotlin latex lisp lua
    make makefile matlab nginx objective-c objectivec ocaml pascal perl php pl powershell proto protobuf ps1 py py3
    pycon python python3 r rb ruby rs rust scala scheme sh shell sql swift terraform tex toml ts tsx typescript
    verilog vim xml yaml yml zig zsh
    """.split()  # noqa: SIM905
)
"""What is coloured. Pygments knows hundreds more, not all of which are as quick and as safe on any text."""
LINK = re.compile(r"(?:https?://|mailto:)\S+", re.IGNORECASE)
FORMAT: HtmlFormatter[str] = HtmlFormatter(nowrap=True, classprefix="hl-")


def render(text: str, live: bool = False) -> str:
    """An answer as HTML, with its text in `data-text` for Copy. Of one that is still being written (`live`), what may
    yet become something else at its very end waits for the next piece."""
    if not text:
        return ""
    if len(text) > MAX_CHARACTERS:
        shown = f'<p dir="auto">{escape(text)}</p>'
    else:
        shown = "".join(_parts(_settled(text) if live else text, live))
    return f'<div class="answer" data-text="{_attribute(text)}">{shown}</div>'


def render_code(text: str, language: str) -> str:
    """An answer that is code, as HTML, with its text in `data-text` for Copy."""
    return f'<div class="answer" data-text="{_attribute(text)}">{code(text, language)}</div>' if text else ""


def block(label: str, **options: Any) -> gr.HTML:
    """The place of a tab's one answer, with its label and a Copy button, for what `render` gives."""
    return gr.HTML(
        "",
        label=label,
        container=True,
        min_height=140,
        html_template=f'<div class="answer-head"><span>{label}</span>'
        f'<button type="button" class="copy-answer">{say("answers.copy")}</button></div>'
        f'<div class="shown" data-placeholder="{say("answers.placeholder")}">${{value}}</div>',
        js_on_load="",
        **options,
    )


# Thoughts: <think>…</think>

OPENS, CLOSES = "<think>", "</think>"
_MARKS = re.compile(
    r"^[ \t>]*(?P<fence>`{3,}|~{3,})(?P<info>.*)$|(?P<run>`+)|(?P<gap>\n[ \t]*\n)|<think>", re.MULTILINE
)


def _parts(text: str, live: bool) -> Iterator[str]:
    """The HTML of an answer's parts: Markdown, and thoughts folded away."""
    while (start := _first_thought(text)) is not None:
        end = text.find(CLOSES, start)
        if end < 0 and text[:start].rpartition("\n")[2].strip():
            break  # In the middle of a line it is a word until it is closed.
        yield _markdown(text[:start], False)
        yield _thoughts(text[start + len(OPENS) : end if end >= 0 else None], live and end < 0)
        if end < 0:
            return
        text = text[end + len(CLOSES) :]
    yield _markdown(text, live)


def _thoughts(text: str, live: bool) -> str:
    if not text.strip() and not live:
        return ""
    summary = say("answers.thinking" if live else "answers.thoughts")
    return f'<details class="thoughts{" busy" * live}"><summary>{summary}</summary>{_markdown(text, live)}</details>'


def _first_thought(text: str) -> int | None:
    """Where the first `<think>` stands that is not in code."""
    if OPENS not in text:
        return None
    fence = run = ""
    at = after_run = 0
    while True:
        match = _MARKS.search(text, at)
        if run and (match is None or match["gap"]):  # Nothing closed it before its paragraph ended: it was no code.
            run, at = "", after_run
            continue
        if match is None:
            return None
        at, fenced = match.end(), match["fence"]
        if fence:
            if fenced and fenced.startswith(fence) and not match["info"].strip():
                fence = ""
        elif fenced and not run and "`" not in match["info"]:
            fence = fenced
        elif mark := fenced or match["run"]:
            at = match.end("fence" if fenced else "run")
            if not run:
                run, after_run = mark, at
            elif run == mark:
                run = ""
        elif not run and match[0] == OPENS:
            return match.start()


# Live: what the end of an answer may still become

_MAY_BEGIN = "-*+=_#~`|:>$\\ \t"
"""What lists, rules, headings, fences, tables, quotations and formulas begin with."""
_HEAD = re.compile(r"(?:\A|\n\n)\|(?:[^|\n]+\|){2,}\n?\Z")


def _settled(text: str) -> str:
    """A text that is being written, without marks at its end that wait for more, and with the line that makes a table
    of what looks like its head."""
    for mark in (OPENS, CLOSES):
        begun = next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)
        text = text[: len(text) - begun]
    before, feed, line = text.rpartition("\n")
    number = feed and len(line) < 5 and line.strip().rstrip(".)").isdecimal()
    if number or not line.strip(_MAY_BEGIN):
        text = before + feed
    if head := _HEAD.search(text):
        text = text.rstrip("\n") + "\n" + "|---" * (head[0].count("|") - 1) + "|"
    return text


# Markdown


def _newline(state: StateInline, silent: bool) -> bool:
    """A line feed is a line break, and the next line keeps its indentation."""
    if state.src[state.pos] != "\n":
        return False
    if not silent:
        state.pending = state.pending.rstrip(" ")
        state.push("hardbreak", "br", 0)
    state.pos += 1
    return True


def _image(state: StateInline, silent: bool) -> bool:
    """An image becomes a link that says where it leads: nothing is loaded."""
    if not read_image(state, silent):
        return False
    if not silent:
        image = state.tokens.pop()
        address = str(image.attrs["src"])
        told = f"{image.content or say('answers.image')} ({urlsplit(address).netloc or address})"
        if not state.linkLevel:
            state.push("link_open", "a", 1).attrs = {"href": address}
        state.push("text", "", 0).content = told
        if not state.linkLevel:
            state.push("link_close", "a", -1)
    return True


def _render_link(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: OptionsDict, _: EnvType) -> str:
    token = tokens[index]
    token.attrs |= {"title": token.attrs["href"], "target": "_blank", "rel": "noopener noreferrer"}
    return renderer.renderToken(tokens, index, options, {})


def _render_code(_r: RendererHTML, tokens: Sequence[Token], index: int, _o: OptionsDict, _e: EnvType) -> str:
    language = tokens[index].info.strip().split(maxsplit=1)
    return code(tokens[index].content, language[0] if language else "")


def _render_code_span(_r: RendererHTML, tokens: Sequence[Token], index: int, _o: OptionsDict, _e: EnvType) -> str:
    return f'<code dir="ltr">{escape(tokens[index].content)}</code>'


def _parser(renderer: type[RendererHTML] = RendererHTML) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=renderer).enable(["table", "strikethrough"])
    # Definitions of links would vanish; a line of dashes under a text is a rule, or a list that has just begun.
    parser.disable(["reference", "lheading"])
    parser.use(formulas.plugin)
    parser.inline.ruler.at("newline", _newline)
    parser.inline.ruler.at("image", _image)
    setattr(parser, "validateLink", lambda url: LINK.fullmatch(url) is not None)  # noqa: B010  (It is a method.)
    for name in ("fence", "code_block"):
        parser.add_render_rule(name, _render_code)
    parser.add_render_rule("code_inline", _render_code_span)
    parser.add_render_rule("hardbreak", lambda *_: "<br>")
    parser.add_render_rule("link_open", _render_link)
    parser.add_render_rule("table_open", lambda *_: '<div class="table"><table dir="auto">')
    parser.add_render_rule("table_close", lambda *_: "</table></div>")
    return parser


class _Blocks(RendererHTML):
    """Renders blocks. What stands in them is parsed when it is drawn, once: only the last block of an answer that is
    being written is new each time."""

    def render(self, tokens: Sequence[Token], options: OptionsDict, env: EnvType) -> str:
        parts = []
        last = max((i for i, token in enumerate(tokens) if token.type == "inline"), default=-1)
        for i, token in enumerate(tokens):
            if token.type == "inline":
                parts.append(
                    _inline(token.content, words.language())
                    if i != last or not env.get("live")
                    else _growing(token.content)
                )
            elif token.type in self.rules:
                parts.append(self.rules[token.type](tokens, i, options, env))
            else:
                if token.level == 0 and token.nesting == 1:
                    token.attrSet("dir", "auto")
                parts.append(self.renderToken(tokens, i, options, env))
        return "".join(parts)


_INLINE = _parser()
_BLOCKS = _parser(_Blocks).disable(["inline", "text_join"])


def _markdown(text: str, live: bool) -> str:
    return str(_BLOCKS.render(text, {"live": live}))


@lru_cache(2048)
def _inline(text: str, _language: str) -> str:
    """What does not grow any more; it may have words of the page."""
    return _growing(text, live=False)


def _growing(text: str, live: bool = True) -> str:
    if len(text) > MAX_PARAGRAPH:
        return escape(text).replace("\n", "<br>")
    return str(_INLINE.renderInline(text, {"live": live}))


def code(text: str, language: str = "") -> str:
    """A block of code as HTML, with its language and a Copy button above it. The browser draws Mermaid's diagrams."""
    drawn = ' data-language="mermaid"' * (language.lower() == "mermaid")
    name = escape(language) or say("answers.text")
    return (
        f'<div class="code" dir="ltr"{drawn}><div class="code-head"><span>{name}</span>'
        f'<button type="button" class="copy-code">{say("answers.copy")}</button></div>'
        f"<pre><code>{_coloured(text, language.lower())}</code></pre></div>"
    )


def _coloured(text: str, language: str) -> str:
    """Code as HTML. A last line that may still be growing waits for its colours, so that the others keep theirs."""
    if language not in LANGUAGES or len(text) > MAX_HIGHLIGHTED:
        return escape(text)
    lines, feed, last = text.rpartition("\n")
    return _highlighted(lines + feed, language) + escape(last)


@lru_cache(256)
def _highlighted(text: str, language: str) -> str:
    return str(highlight(text, get_lexer_by_name(language, stripnl=False, ensurenl=False), FORMAT))


def _attribute(text: str) -> str:
    """A text as an attribute's value, which the browser gives back character for character."""
    return escape(text).replace("\r", "&#13;").replace("\n", "&#10;").replace("\t", "&#9;")
