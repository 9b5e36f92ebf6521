"""The door: which of Gradio's routes are open, how much may come in, and what the page may do in a browser.

Gradio serves many demos; what this one does not need is closed, so that nothing of a visitor can be fetched by another.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/gradio_api"
PAGE = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?|/(assets|static)/.+"
    rf"|{API}/(info|openapi\.json|app_id|startup-events|login_check|theme\.css)/?|{API}/mcp/?|{API}/mcp/schema"
    rf"|{API}/(heartbeat/\w+|queue/data|upload_progress|call/(v2/)?\w+/\w+)"
)
"""What can be read. Beside the page and its description: the streams of one's own session, whose name is the key."""
CALLS = re.compile(rf"{API}/(queue/join|run/predict|call/(v2/)?\w+|cancel|reset|upload|mcp)/?")
"""What can be called."""
OPEN = {"GET": PAGE, "HEAD": PAGE, "POST": CALLS, "DELETE": re.compile(rf"{API}/mcp/?")}

SOURCES = {
    "default-src": "'self'",
    "base-uri": "'self'",
    "connect-src": "'self'",
    "font-src": "'self' data:",
    "form-action": "'none'",
    "frame-src": "'none'",
    "img-src": "'self' data: blob:",
    "object-src": "'none'",
    "style-src": "'self' 'unsafe-inline'",
    "worker-src": "'self' blob:",
}
"""Content-Security-Policy (W3C, level 3): whatever got into the page, nothing reaches out of it. Gradio compiles the
functions that events have in the browser, hence `'unsafe-eval'`; its scripts are known by their hashes."""
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"permissions-policy": b"camera=(), microphone=(), geolocation=()",
}
NAMED = re.compile("/assets/")
"""Where the names of files are made of their content."""
KEPT = {b"cache-control": b"public, max-age=31536000, immutable"}
SCRIPT = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)


BESIDE = re.compile(r"/v1/.*|/health(/.*)?|/metrics|/docs|/openapi\.json")
"""What the HTTP API answers."""
LARGE = re.compile(rf"/|/config/?|{API}/(info|openapi\.json)/?")
"""The page and its description."""


class Beside:
    """Middleware (ASGI) that leads to the HTTP API what is its."""

    def __init__(self, app: ASGIApp, api: ASGIApp) -> None:
        self._app, self._api = app, api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        its = scope["type"] == "http" and BESIDE.fullmatch(scope["path"])
        await (self._api if its else self._app)(scope, receive, send)


class Compressed:
    """Middleware (ASGI) that compresses the page: to an eighth, which is two seconds on a slow line. Gradio's own goes
    by the endings of names, of which the page has none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._compressing = app, GZipMiddleware(app, compresslevel=6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        large = scope["type"] == "http" and LARGE.fullmatch(scope["path"])
        await (self._compressing if large else self._app)(scope, receive, send)


class TooMuch(Exception):
    """More is being sent than may be."""


class Door:
    """Middleware (ASGI) around the page. `scripts` are those that the page itself puts into its head; a request may
    have `most` bytes."""

    def __init__(self, app: ASGIApp, scripts: Iterable[str], most: int) -> None:
        self._app, self._most = app, most
        self._scripts = [_hash(script.encode()) for script in scripts]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1000})
        pattern = OPEN.get(scope["method"])
        if not pattern or not pattern.fullmatch(scope["path"]):
            return await refuse("There is nothing here.", 404)(scope, receive, send)
        await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, size = False, 0
        too_much = f"Requests are limited to {self._most / 1e6:g} MB here. Send less."

        async def count() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most:
                raise TooMuch
            return message

        async def tell(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        if _length(scope) > self._most:  # Before any of it is stored.
            return await refuse(too_much, 413)(scope, receive, send)
        try:
            await self._app(scope, count, _Policy(tell, self._scripts, NAMED.match(scope["path"]) is not None).send)
        except TooMuch:
            if not began:
                await refuse(too_much, 413)(scope, receive, send)


class _Policy:
    """Gives every answer its headers. A page waits until it is whole, for the hashes of the scripts in it; what is
    `named` by its content is kept by browsers, and not asked for again."""

    def __init__(self, send: Send, scripts: list[str], named: bool) -> None:
        self._send, self._scripts, self._named = send, scripts, named
        self._start: Message | None = None
        self._page = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = KEPT.items() if self._named and message["status"] == HTTPStatus.OK else ()
            message["headers"] = [*message["headers"], *HEADERS.items(), *kept]
            if (b"content-type", b"text/html") in [(name, value[:9]) for name, value in message["headers"]]:
                self._start = message
            else:
                await self._send(message)
        elif self._start:
            self._page += message.get("body", b"")
            if not message.get("more_body"):
                hashes = [_hash(script) for script in SCRIPT.findall(self._page)]
                policy = self._policy([*hashes, *self._scripts])
                self._start["headers"].append((b"content-security-policy", policy.encode()))
                await self._send(self._start)
                await self._send({"type": "http.response.body", "body": self._page})
        else:
            await self._send(message)

    def _policy(self, hashes: list[str]) -> str:
        sources = SOURCES | {"script-src": " ".join(["'self'", "'unsafe-eval'", *hashes])}
        return "; ".join(f"{kind} {allowed}" for kind, allowed in sources.items())


async def refuse_form(_request: Request, error: Exception) -> Response:
    """The answer to a call whose body does not validate."""
    assert isinstance(error, RequestValidationError)
    problems = (f"{'.'.join(map(str, item['loc'][1:])) or 'the body'}: {item['msg']}" for item in error.errors())
    return refuse(f"This call cannot be understood. {'; '.join(problems)}"[:1000], 422)


def refuse(sentence: str, status: int, **headers: str) -> JSONResponse:
    """An answer that says what is wrong, in the form that Gradio's clients show."""
    return JSONResponse({"detail": sentence, "error": sentence}, status, headers)


def _length(scope: Scope) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"")
    return int(value) if value.isdigit() else 0


def _hash(script: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
