"""In front of the API: who may ask, how much at a time, and that answers end which nobody reads."""

import asyncio
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .clients import Clients, TooManyRequests
from .failures import Failure, failure
from .settings import ServerSettings


class Gate:
    """Middleware (ASGI)."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, clients: Clients) -> None:
        self._app, self._settings, self._clients = app, settings, clients
        self._most = settings.upload_megabytes * 1_000_000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = False

        async def send_in_time(message: Message) -> None:
            nonlocal began
            began = True
            await asyncio.wait_for(send(message), self._settings.unread_seconds)

        try:
            self._check(scope)
            bounded = await self._bounded(scope, receive)
            if scope["method"] != "POST":
                return await self._app(scope, bounded, send_in_time)
            with self._clients.of(scope).calling(self._settings):
                await self._app(scope, bounded, send_in_time)
        except TimeoutError:
            pass  # Whoever it is has the connection open and does not read.
        except (Failure, TooManyRequests) as error:
            if not began:
                await failure(error).response()(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Errors: Failure."""
        headers = dict(scope["headers"])
        key = self._settings.api_key
        if key and scope["path"].startswith("/v1"):
            given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
            if not secrets.compare_digest(given, key.get_secret_value().encode()):
                raise Failure(
                    401,
                    "The API key is missing or wrong. Send `Authorization: Bearer KEY`.",
                    "authentication_error",
                    "invalid_api_key",
                )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._most:
            raise self._too_much()

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        size = 0

        async def count() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most:
                raise self._too_much()
            return message

        return count

    def _too_much(self) -> Failure:
        return Failure(
            413, f"Requests are limited to {self._most / 1e6:g} MB here. Send less.", "invalid_request_error"
        )
