r"""Formulas in answers: LaTeX between $$ and $$, \[ and \], or \( and \), as MathML.

Single dollars are money more often than mathematics.
"""

import re
from functools import lru_cache
from html import escape, unescape
from typing import Any
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import Converter
from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.utils import EnvType

CLOSERS = {"$$": "$$", r"\[": r"\]", r"\(": r"\)"}
MAX_CHARACTERS = 2000
MAX_LINES = 40
"""Longer formulas are shown as their source."""
REFUSED = re.compile(r"\\(?:[egx]?def|let|(?:re)?newcommand|providecommand|rule|href|class|style|unicode)\b")
"""What defines macros, which can multiply, and what makes boxes, links or anything but a formula."""
TAGS = frozenset(
    """
    math mrow mi mn mo mtext ms mspace mfrac msqrt mroot mstyle merror mpadded mphantom msub msup msubsup munder
    mover munderover mmultiscripts mprescripts none mtable mtr mtd menclose
    """.split()  # noqa: SIM905
)
ATTRIBUTES = frozenset(
    """
    accent accentunder align columnalign columnlines columnspacing depth display displaystyle fence form height
    linethickness mathcolor mathvariant maxsize minsize movablelimits notation rowlines rowspacing scriptlevel
    separator stretchy width
    """.split()  # noqa: SIM905
)

VALUE = re.compile(r"[\w#+ .%-]*")


def plugin(markdown: MarkdownIt) -> None:
    """Makes `markdown` read formulas. With `live` in its environment, one without an end is shown as its source."""
    markdown.inline.ruler.before("escape", "formula", _inline)
    interrupts: RuleOptionsType = {"alt": ["paragraph", "blockquote", "list"]}
    markdown.block.ruler.before("fence", "formula", _block, interrupts)
    markdown.add_render_rule("formula", _render)


def _inline(state: StateInline, silent: bool) -> bool:
    """A formula within a paragraph."""
    opener = state.src[state.pos : state.pos + 2]
    closer = CLOSERS.get(opener)
    if closer is None or closer in state.env.get("unclosed", ()):
        return False
    end = state.src.find(closer, state.pos + 2)
    if end < 0 and not state.env.get("live"):
        state.env.setdefault("unclosed", set()).add(closer)  # What is not there is looked for once.
        return False
    whole = end >= 0
    end = end if whole else state.posMax
    source = state.src[state.pos + 2 : end]
    if (whole and not source.strip()) or end > state.posMax:
        return False
    if not silent:
        _push(state, opener, source, whole)
    state.pos = end + 2 if whole else end
    return True


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A formula that begins a line and ends one, over as many lines as it likes."""
    at = state.bMarks[start] + state.tShift[start]
    opener = state.src[at : at + 2]
    if opener == r"\(" or opener not in CLOSERS or state.is_code_block(start):
        return False
    live = state.env.get("live", False)
    closer, lines = CLOSERS[opener], list[str]()
    for line in range(start, min(end, start + MAX_LINES)):
        if line > start and state.sCount[line] < state.blkIndent and not state.isEmpty(line):
            return False
        begin = at + 2 if line == start else state.bMarks[line] + state.tShift[line]
        text, closed, rest = state.src[begin : state.eMarks[line]].partition(closer)
        lines.append(text)
        if closed:
            break
    else:
        if not live or end > start + MAX_LINES:
            return False
        closed, rest = "", ""
    source = "\n".join(lines)
    if rest.strip() or (closed and not source.strip()):
        return False  # The rest of the line is text: a paragraph with a formula in it.
    if not silent:
        _push(state, opener, source, bool(closed)).map = [start, line + 1]
    state.line = line + 1
    return True


def _push(state: Any, opener: str, source: str, whole: bool) -> Any:
    token = state.push("formula", "math", 0)
    token.content, token.markup, token.meta = source, opener, {"whole": whole}
    return token


def _render(_renderer: Any, tokens: Any, index: int, _options: Any, _env: EnvType) -> str:
    token = tokens[index]
    source, opener, whole = token.content, token.markup, token.meta["whole"]
    mathml = to_mathml(source.strip(), opener != r"\(") if whole else None
    kind = "formula" if opener == r"\(" else "formula display"
    if mathml is None:
        shown = escape(f"{opener}{source}{CLOSERS[opener] if whole else ''}").replace("\n", "<br>")
        return f'<code class="{kind}" dir="ltr">{shown}</code>'
    return f'<span class="{kind}" dir="ltr">{mathml}</span>'


@lru_cache(256)
def to_mathml(latex: str, display: bool) -> str | None:
    """A formula as MathML; None where it cannot be read."""
    if len(latex) > MAX_CHARACTERS or REFUSED.search(latex):
        return None
    try:
        tree = Converter(display="block" if display else "inline").convert_to_element(latex)
        _clean(tree)
    except (Exception, RecursionError):  # The converter raises whatever its code stumbles over.
        return None
    return tostring(tree, encoding="unicode")


CHILDREN = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
"""How many parts these must have: browsers show an error otherwise."""


def _clean(element: Element) -> None:
    """Makes characters of the entities that the converter writes as text. Refuses what is not plain MathML, and what
    the converter could not read."""
    if element.tag not in TAGS or len(element) != CHILDREN.get(element.tag, len(element)):
        raise ValueError(element.tag)
    allowed = {name: value for name, value in element.attrib.items() if name in ATTRIBUTES and VALUE.fullmatch(value)}
    element.attrib.clear()
    element.attrib.update(allowed)
    element.text = unescape(element.text or "")
    element.tail = unescape(element.tail or "")
    if element.tag != "mtext" and re.match(r"\\[A-Za-z]", element.text):
        raise ValueError(element.text)  # A command that it does not know.
    for child in element:
        _clean(child)
