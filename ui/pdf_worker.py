"""The process that reads PDFs: `python -m ui.pdf_worker SOCKET SECONDS BYTES`, started by `documents.py`, whose limits
these are. A small file can hold pages that take hours, or gigabytes."""

import json
from io import BytesIO
from typing import TypedDict

from pypdf import PdfReader
from pypdf.errors import DependencyError

from falcon_runtime.system.bounded import serve

MAX_PAGES = 200


class Reply(TypedDict, total=False):
    """One of the two."""

    text: str
    problem: tuple[str, int]
    """A key of the words of `documents.py`, and what is counted."""


def read(content: bytes) -> Reply:
    """The text of all pages of a PDF."""
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):  # Many forbid only printing, with an empty password.
            return {"problem": ("encrypted", 0)}
        if (pages := len(reader.pages)) > MAX_PAGES:
            return {"problem": ("pages", pages)}
        return {"text": "\n\n".join(page.extract_text().strip() for page in reader.pages)}
    except MemoryError:
        return {"problem": ("endless", 0)}
    except DependencyError:  # An encryption for which pypdf would want another library.
        return {"problem": ("encrypted", 0)}
    except Exception:  # On a damaged file, pypdf raises whatever its code stumbles over.
        return {"problem": ("damaged", 0)}


if __name__ == "__main__":
    serve(lambda content: json.dumps(read(content)).encode())
