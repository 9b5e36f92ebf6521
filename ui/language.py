"""Which language a visitor reads, and the page in it."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import words

PARAMETER = "lang"
"""Of the page's address: the language that the visitor has chosen."""
SCRIPT = (words.HERE / "language.js").read_text()
SAID = re.compile(r"\bfalcon\.say\(\s*'([\w.]+)'")
"""A key in a script."""


def language_of(query: str, headers: Mapping[str, str]) -> str:
    """The code of the language for a request with this query and these headers.

    It is the one in the address of the page, which asks with this request or has made it (Referer, RFC 9110, 10.1.3);
    else that of ours which the browser would rather have (Accept-Language, 12.5.4); else English.
    """
    for asked in (query, headers.get("referer", "").partition("?")[2]):
        if (code := parse_qs(asked).get(PARAMETER, [""])[0]) in words.NAMES:
            return code
    preferred = (name.split("-")[0].lower() for name in _accepted(headers.get("accept-language", "")))
    return next((code for code in preferred if code in words.NAMES), words.DEFAULT)


def _accepted(header: str) -> list[str]:
    """The languages of an Accept-Language header, the most welcome first."""
    weighed = []
    for part in header.split(","):
        name, _, weight = part.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if quality > 0:
            weighed.append((quality, name.strip()))
    return [name for _, name in sorted(weighed, key=lambda pair: -pair[0])]


class Languages:
    """Middleware (ASGI) that has each request answered in its language. The page tells the browser which one it is,
    and has the words for `scripts`, before anything of Gradio's is there."""

    def __init__(self, app: ASGIApp, scripts: Iterable[str]) -> None:
        self._app = app
        self._keys = sorted({key for script in scripts for key in SAID.findall(script)})
        self._head = cache(self._make_head)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        code = language_of(scope["query_string"].decode("latin-1"), Headers(scope=scope))
        page = scope["method"] == "GET" and scope["path"] == "/"
        with words.speaking(code):
            await self._app(scope, receive, _Page(send, code, self._head(code)).send if page else send)

    def _make_head(self, code: str) -> str:
        """What stands at the beginning of the page's head."""
        known = {
            "language": {"code": code, "names": words.NAMES},
            "words": {key: words.dictionary(code)[key] for key in self._keys},
        }
        return f"<script>window.falcon = {json.dumps(known, ensure_ascii=False)}\n{SCRIPT}</script>"


class _Page:
    """Sends a page on when it is whole, with its language and a beginning of its head."""

    def __init__(self, send: Send, code: str, head: str) -> None:
        self._send, self._code, self._head = send, code, head
        self._start: Message = {}
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        html = f'<html lang="{self._code}" dir="{words.direction(self._code)}"'
        body = re.sub(r'<html\s+lang="\w+"', html, self._body.decode(), count=1)
        body = body.replace("<head>", f"<head>{self._head}", 1)
        headers = MutableHeaders(raw=self._start["headers"])
        headers["content-length"] = str(len(body.encode()))
        headers.add_vary_header("accept-language")
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body.encode()})
