"""The text of a file that a visitor uploads."""

import re
import unicodedata
from io import BytesIO
from pathlib import Path

from pypdf import PdfReader
from pypdf.errors import DependencyError

from falcon_runtime.errors import InvalidRequest
from falcon_runtime.system.unicode import whole

from . import encodings

MAX_BYTES = 10_000_000
MAX_PAGES = 200
KINDS = (".txt", ".md", ".pdf")

BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Longer ones first: one begins like another."""
JAPANESE_ESCAPE = re.compile(rb"\x1b\$[@B]")
"""What kanji begin with in ISO-2022-JP."""
CONTROL = re.compile(r"[\x00-\x08\x0e-\x19\x1c-\x1f]")
"""Characters that no text has."""


def read_document(path: str | Path) -> str:
    """The text of a file, with line ends of one kind and no long gaps.

    Errors: InvalidRequest if it is too large, of another kind, encrypted, damaged, or holds no text.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise InvalidRequest(f"{path.name} cannot be read: only files that end in {', '.join(KINDS)} can.")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise InvalidRequest(
            f"{path.name} has {size:,} bytes; a file may have {MAX_BYTES:,}. Choose a smaller one, or a part of it."
        )
    content = path.read_bytes()
    text = _tidy(_read_pdf(content, path.name) if kind == ".pdf" else _decode(content, path.name))
    if text:
        return text
    if kind == ".pdf" and content:
        raise InvalidRequest(
            f"{path.name} holds no text, only pictures of it, as scans do. Run text recognition on it first."
        )
    raise InvalidRequest(f"{path.name} is empty. Choose a file with text.")


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
        raise InvalidRequest(f"{name} is not a text file, whatever its name says. Save it as UTF-8 text, or as PDF.")
    if (text := encodings.guess(content)) is None:
        raise InvalidRequest(f"The encoding of {name} cannot be determined. Save it as UTF-8 text first.")
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
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):  # Many forbid only printing, with an empty password.
            raise _encrypted(name)
        if (pages := len(reader.pages)) > MAX_PAGES:
            raise InvalidRequest(f"{name} has {pages:,} pages; a PDF may have {MAX_PAGES}. Choose a part of it.")
        return "\n\n".join(page.extract_text().strip() for page in reader.pages)
    except InvalidRequest:
        raise
    except DependencyError as error:  # An encryption for which pypdf would want another library.
        raise _encrypted(name) from error
    except Exception as error:  # On a damaged file, pypdf raises whatever its code stumbles over.
        raise InvalidRequest(f"{name} is damaged, or not a PDF. Open it in a viewer and save it again.") from error


def _encrypted(name: str) -> InvalidRequest:
    return InvalidRequest(f"{name} is encrypted. Save it without a password first.")


def _tidy(text: str) -> str:
    """The text with line ends of one kind, two blank lines in a row at most, and only characters that UTF-8 has."""
    text = whole(text).replace("\0", "")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    text = "\n".join(line if line.strip() else "" for line in lines)
    return re.sub("\n{4,}", "\n\n\n", text).strip("\n")
