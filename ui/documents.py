"""The text of a file that a visitor uploads."""

import json
import re
import unicodedata
from pathlib import Path

from falcon_runtime.errors import InvalidRequest
from falcon_runtime.system.bounded import Bounded
from falcon_runtime.system.unicode import whole

from . import encodings
from .pdf_worker import MAX_PAGES, Reply
from .words import say

MAX_BYTES = 10_000_000
PDF_SECONDS, PDF_MEMORY_BYTES = 20, 1_000_000_000
"""The most that a processor works on a PDF, and that is allocated for it."""
KINDS = (".txt", ".md", ".pdf")

BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Longer ones first: one begins like another."""
JAPANESE_ESCAPE = re.compile(rb"\x1b\$[@B]")
"""What kanji begin with in ISO-2022-JP."""
CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1c-\x1f]")
"""Characters that no text has."""

PDFS = Bounded(f"{__package__}.pdf_worker", PDF_SECONDS, PDF_MEMORY_BYTES)


def read_document(path: str | Path) -> str:
    """The text of a file, with line ends of one kind and no long gaps.

    Errors: InvalidRequest if it is too large, of another kind, encrypted, damaged, or holds no text.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise InvalidRequest(say("documents.kind", name=path.name, kinds=say("list.comma").join(KINDS)))
    if (size := path.stat().st_size) > MAX_BYTES:
        raise InvalidRequest(say("documents.bytes", name=path.name, count=size, most=MAX_BYTES))
    content = path.read_bytes()
    text = _tidy(_read_pdf(content, path.name) if kind == ".pdf" else _decode(content, path.name))
    if text:
        return text
    if kind == ".pdf" and content:
        raise InvalidRequest(say("documents.scan", name=path.name))
    raise InvalidRequest(say("documents.empty", name=path.name))


def _decode(content: bytes, name: str) -> str:
    """A text file's text, whichever encoding it has. Errors: InvalidRequest where that cannot be told for sure."""
    marked = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if content.startswith(mark)), None)
    if JAPANESE_ESCAPE.search(content) and (text := encodings.guess(content)):
        return text  # All of it is ASCII, and none of it meant so.
    for encoding in [marked] if marked else ["utf-8-sig", *_wide(content)]:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8-sig" or _is_text(text):
            return text
    if marked or CONTROL.search(content.decode("latin-1")):
        raise InvalidRequest(say("documents.no_text", name=name))
    if (text := encodings.guess(content)) is None:
        raise InvalidRequest(say("documents.encoding", name=name))
    return text


def _wide(content: bytes) -> list[str]:
    """The encodings of two or four bytes a character, without a mark, that the file may have: those of ASCII, even of a
    line feed, have zeros on one side."""
    first, second = content[::2].count(0), content[1::2].count(0)
    if not first and not second:
        return []
    return ["utf-32-le", "utf-32-be", *(["utf-16-le"] * (not first)), *(["utf-16-be"] * (not second))]


def _is_text(text: str) -> bool:
    """Whether there are only characters that texts have."""
    return not CONTROL.search(text) and not any(unicodedata.category(c) in ("Cn", "Co", "Cs") for c in text)


def _read_pdf(content: bytes, name: str) -> str:
    """The text of all pages of a PDF."""
    if not content:
        return ""
    told = PDFS.ask(content)
    if told is None:
        raise InvalidRequest(say("documents.endless", name=name))
    reply: Reply = json.loads(told)
    if "problem" not in reply:
        return reply["text"]
    problem, count = reply["problem"]
    raise InvalidRequest(say(f"documents.{problem}", name=name, count=count, most=MAX_PAGES))


def _tidy(text: str) -> str:
    """The text with line ends of one kind, two blank lines in a row at most, and only characters that UTF-8 has."""
    text = whole(text).replace("\0", "")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    text = "\n".join(line if line.strip() else "" for line in lines)
    return re.sub("\n{4,}", "\n\n\n", text).strip("\n")
