"""Who asks: how much one client may ask for at a time, and that answers end which nobody reads."""

import asyncio
import json
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from falcon_runtime.server import clients
from falcon_runtime.server.clients import Clients, TooManyRequests

from .bodies import again, body_of
from .door import API, refuse
from .sessions import Sessions

SWEEP_S = 1
STREAMS_PER_REQUEST = 4
"""Connections of one client that stay open, for each request that it may make at a time: pages keep one or two."""
ENDPOINTS = "The endpoints are /generate, /chat and /instruct."


class Allowed(clients.Allowed, Protocol):
    """What one client may take."""

    @property
    def unread_seconds(self) -> int: ...


class Refused(Exception):
    """A request that is not carried out: the sentence, and the HTTP status."""

    def __init__(self, sentence: str, status: int, **headers: str) -> None:
        super().__init__(sentence)
        self.response = refuse(sentence, status, **headers)


class Visitors:
    """Middleware (ASGI) between the door and Gradio."""

    def __init__(self, app: ASGIApp, allowed: Allowed, clients: Clients) -> None:
        self._app, self._allowed, self._clients = app, allowed, clients
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
                        await self._stream(scope, receive, send)
                case "POST", "mcp", *_:
                    await self._stream(scope, receive, send)
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
            for client in self._clients.all():
                client.events = {event for event in client.events if self._sessions.is_running(event)}

    async def _ask(self, path: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a call through that can be one, and within what its client may ask for."""
        body = await body_of(receive)
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
        await self._admit(function.queue, _as_json(scope), again(body, receive), send)

    async def _admit(self, queued: bool, scope: Scope, receive: Receive, send: Send) -> None:
        answer = b""

        async def noted(message: Message) -> None:
            nonlocal answer
            answer += message.get("body", b"")
            await send(message)

        client = self._clients.of(scope)
        if not queued:
            return await self._app(scope, receive, send)
        client.events = {event for event in client.events if self._sessions.is_running(event)}
        try:
            client.admit(self._allowed)
        except TooManyRequests as error:
            raise Refused(str(error), 429, **{"Retry-After": str(error.retry_s)}) from None
        await self._app(scope, receive, noted)
        with suppress(ValueError, KeyError, TypeError):
            event = json.loads(answer)["event_id"]
            client.events.add(event)
            self._sessions.asked(event)

    async def _read(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        with self._sessions.reader(session):
            await self._stream(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets something be read that takes its time, unless the client has too much of that, or does not read."""
        client = self._clients.of(scope)
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


def _values(body: bytes) -> dict[str, Any]:
    """What is called, and with what. Errors: Refused."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused('The body is not JSON. It must be {"data": [...]}.', 400) from None
    if not isinstance(values, dict) or not isinstance(values.get("data", []), list):
        raise Refused('The body must be {"data": [...]}, the values in the order of the endpoint\'s parameters.', 400)
    return values


def _as_json(scope: Scope) -> Scope:
    """The same request, said to be what it was found to be."""
    headers = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*headers, (b"content-type", b"application/json")]}


def _query(scope: Scope, name: str) -> str:
    return str(parse_qs(scope["query_string"].decode("latin-1")).get(name, [""])[0])
