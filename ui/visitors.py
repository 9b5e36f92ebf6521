"""Who asks: how much one client may ask for at a time, and that answers end which nobody reads."""

import asyncio
import json
import time
from collections import defaultdict, deque
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .door import API, refuse
from .sessions import Sessions

SWEEP_S = 1
STREAMS_PER_REQUEST = 4
"""Connections of one client that stay open, for each request that it may make at a time: pages keep one or two."""
ENDPOINTS = "The endpoints are /generate, /chat and /instruct."


class Allowed(Protocol):
    """What one client may take."""

    requests_at_once: int
    requests_per_minute: int
    unread_seconds: int

    @property
    def trusted_proxies(self) -> int: ...


class Refused(Exception):
    """A request that is not carried out: the sentence, and the HTTP status."""

    def __init__(self, sentence: str, status: int, **headers: str) -> None:
        super().__init__(sentence)
        self.response = refuse(sentence, status, **headers)


class Client:
    """What one address has asked for."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        """Its events that run or wait."""
        self.minute: deque[float] = deque()
        """When it asked, in the last minute."""
        self.streams = 0

    def admit(self, allowed: Allowed) -> None:
        """Counts one more request. Errors: Refused."""
        now = time.monotonic()
        while self.minute and now - self.minute[0] > 60:
            self.minute.popleft()
        if len(self.running) >= allowed.requests_at_once:
            raise Refused(
                f"You have {len(self.running)} requests that run or wait, and may have {allowed.requests_at_once}. "
                "Read their answers, or stop some, and ask again.",
                429,
                **{"Retry-After": "5"},
            )
        if len(self.minute) >= allowed.requests_per_minute:
            wait = 60 - (now - self.minute[0])
            raise Refused(
                f"You have asked {len(self.minute)} times in a minute, which is the most. Ask again in {wait:.0f} s.",
                429,
                **{"Retry-After": f"{wait:.0f}"},
            )
        self.minute.append(now)

    @property
    def idle(self) -> bool:
        return not (self.running or self.streams or (self.minute and time.monotonic() - self.minute[-1] < 60))


class Visitors:
    """Middleware (ASGI) between the door and Gradio."""

    def __init__(self, app: ASGIApp, allowed: Allowed) -> None:
        self._app, self._allowed = app, allowed
        self._clients: defaultdict[str, Client] = defaultdict(Client)
        self._sessions: Sessions
        self._sweeping: asyncio.Task[None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._sessions = Sessions(scope["app"])
            self._sweeping = asyncio.create_task(self._sweep())
            return await self._app(scope, receive, send)
        path = scope["path"].removeprefix(API).strip("/").split("/")
        try:
            match scope["method"], *path:
                case "POST", ("queue" | "call" | "run"), *_:
                    await self._ask(path, scope, receive, send)
                case "GET", "heartbeat", session:
                    with self._sessions.page(session):
                        await self._stream(session, scope, receive, send)
                case "GET", "queue", "data":
                    await self._read(_query(scope, "session_hash"), scope, receive, send)
                case "GET", "call", *_, event:
                    session = self._sessions.session_of(event)
                    if session is None:
                        raise Refused("There is no such request, or its answer has been read. Ask again.", 404)
                    await self._read(session, scope, receive, send)
                case _:
                    await self._app(scope, receive, send)
        except Refused as refused:
            await refused.response(scope, receive, send)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self._sessions.sweep(self._allowed.unread_seconds)
            for address, client in list(self._clients.items()):
                client.running = {event for event in client.running if self._sessions.is_running(event)}
                if client.idle:
                    del self._clients[address]

    async def _ask(self, path: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a call through that can be one, and within what its client may ask for."""
        body = await _body(receive)
        values = _values(body)
        named = path[-1] if path[0] == "call" else None
        function = self._sessions.function(None if named else values.get("fn_index"), named)
        if function is None:
            raise Refused(f"There is no such endpoint. {ENDPOINTS}", 404)
        public = function.api_visibility == "public"
        if not public and not self._sessions.is_page(values.get("session_hash")):
            raise Refused(f"That is an event of the page, and no page is open for it. {ENDPOINTS}", 403)
        if public and path[0] == "run":
            raise Refused(f"An endpoint is called by POST to {API}/call/NAME. {ENDPOINTS}", 404)
        await self._admit(function.queue, _as_json(scope), _again(body, receive), send)

    async def _admit(self, queued: bool, scope: Scope, receive: Receive, send: Send) -> None:
        answer = b""

        async def noted(message: Message) -> None:
            nonlocal answer
            answer += message.get("body", b"")
            await send(message)

        client = self._clients[self._address(scope)]
        if not queued:
            return await self._app(scope, receive, send)
        client.running = {event for event in client.running if self._sessions.is_running(event)}
        client.admit(self._allowed)
        await self._app(scope, receive, noted)
        with suppress(ValueError, KeyError, TypeError):
            event = json.loads(answer)["event_id"]
            client.running.add(event)
            self._sessions.asked(event)

    async def _read(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        with self._sessions.reader(session):
            await self._stream(session, scope, receive, send)

    async def _stream(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets something be read that takes its time, unless the client has too much of that, or does not read."""
        client = self._clients[self._address(scope)]
        if client.streams >= STREAMS_PER_REQUEST * self._allowed.requests_at_once:
            raise Refused("You have too many connections open. Close some.", 429)

        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), self._allowed.unread_seconds)

        client.streams += 1
        try:
            await self._app(scope, receive, send_in_time)
        except TimeoutError:
            pass  # Whoever it is has the connection open and does not read. The next sweep ends the answer.
        finally:
            client.streams -= 1

    def _address(self, scope: Scope) -> str:
        """Whose request it is: of the addresses that proxies have added, the one that the first trusted one saw. What
        stands before it, a client may have written itself."""
        hops = self._allowed.trusted_proxies
        added = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        addresses = b",".join(added).decode("latin-1").split(",")
        if hops and added:
            return addresses[-min(hops, len(addresses))].strip()
        return str((scope.get("client") or ("",))[0])


def _values(body: bytes) -> dict[str, Any]:
    """What is called, and with what. Errors: Refused."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused('The body is not JSON. It must be {"data": [...]}.', 400) from None
    if not isinstance(values, dict) or not isinstance(values.get("data", []), list):
        raise Refused('The body must be {"data": [...]}, the values in the order of the endpoint\'s parameters.', 400)
    return values


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _as_json(scope: Scope) -> Scope:
    """The same request, said to be what it was found to be."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*headers, (b"content-type", b"application/json")]}


def _again(body: bytes, receive: Receive) -> Receive:
    """Receives a body that was read, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _query(scope: Scope, name: str) -> str:
    return str(parse_qs(scope["query_string"].decode("latin-1")).get(name, [""])[0])
