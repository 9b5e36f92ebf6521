"""The endpoints as tools of the Model Context Protocol (MCP), at `/gradio_api/mcp`.

Gradio lists the tools and speaks the protocol: its streamable HTTP, without sessions. How a tool is called is told
here: Gradio would call the page over HTTP, as a client on this machine, and finish answers that nobody waits for.
"""

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import anyio
from gradio.route_utils import CustomCORSMiddleware
from mcp.types import TextContent
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from falcon_runtime.errors import InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
from falcon_runtime.runtime import FalconRuntime
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.server import Clients, ServerSettings
from falcon_runtime.server.answers import Answer
from falcon_runtime.server.failures import failure
from falcon_runtime.server.metrics import Metrics
from falcon_runtime.server.service import Service

from . import stats
from .bodies import again, body_of
from .door import API, refuse
from .endpoints import ENDPOINTS
from .update import Update

PATH = f"{API}/mcp"
SESSION = "mcp-session-id"
PROGRESS_S = 1
CLOSED = (anyio.ClosedResourceError, anyio.BrokenResourceError)
Call = tuple[str, str | int]
"""A client's session, and its own number of a request."""


class Tools:
    """Middleware (ASGI) in front of Gradio's MCP server; where there is none, there is nothing at its address."""

    def __init__(self, app: ASGIApp, fleet: Fleet, settings: ServerSettings, clients: Clients) -> None:
        self._app, self._clients = app, clients
        self._service = Service(fleet, settings, Metrics(fleet))
        self._cors = CustomCORSMiddleware(app)
        self._gradio: Any = None
        self._running: dict[Call, anyio.CancelScope] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            blocks = scope["app"].get_blocks()
            blocks.mcp_server = False  # All that is left to do by it are three lines on the terminal.
            self._gradio = blocks.mcp_server_obj
            if self._gradio:  # What is wrong with a value is told in better words where it is used.
                self._gradio.mcp_server.call_tool(validate_input=False)(self._call)
            return await self._app(scope, receive, send)
        if not f"{scope['path']}/".startswith(f"{PATH}/"):
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        if not self._gradio:
            answer = refuse("There is nothing here.", 404)
        elif "origin" in headers and not self._cors.is_valid_origin(headers):
            answer = refuse("A page elsewhere may not call tools of this machine.", 403)
        elif scope["method"] == "POST":
            # Without the slash Gradio would send the client on, to an address that may be wrong behind a proxy.
            return await self._post({**scope, "path": f"{PATH}/"}, receive, send)
        elif scope["method"] == "DELETE" or "text/event-stream" in headers.get("accept", ""):
            answer = refuse("Only requests are answered here: POST one.", 405, Allow="POST")
        else:  # What a browser shows.
            return await self._app(scope, receive, send)
        await answer(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a message on. For Gradio's server each stands alone, so what a client cancels is looked up here."""
        body = await body_of(receive)
        session, receive = Headers(scope=scope).get(SESSION, ""), again(body, receive)
        match _message(body):
            case {"method": "initialize"}:
                send = _opening_session(send)
            case {"method": "tools/call", "id": str() | int() as number}:
                return await self._until_cancelled((session, number), scope, receive, send)
            case {"method": "notifications/cancelled", "params": {"requestId": str() | int() as number}}:
                if running := self._running.get((session, number)):
                    running.cancel()
        await self._app(scope, receive, send)

    async def _until_cancelled(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def noted(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        with self._registered(call) as running:
            await self._app(scope, receive, noted)
        if running.cancelled_caught and began:
            await send({"type": "http.response.body", "body": b""})

    @contextmanager
    def _registered(self, call: Call) -> Iterator[anyio.CancelScope]:
        with anyio.CancelScope() as running:
            if call[0]:  # Without a session, numbers of several clients may be the same.
                self._running[call] = running
            try:
                yield running
            finally:
                if self._running.get(call) is running:
                    del self._running[call]

    async def _call(self, name: str, arguments: dict[str, Any]) -> list[TextContent]:
        """What a tool gives. Errors: InvalidRequest, Failure, whose words the client gets."""
        context = self._gradio.mcp_server.request_context
        endpoint = ENDPOINTS.get(self._gradio.tool_to_endpoint.get(name, "").strip("/"))
        if endpoint is None:
            tools = ", ".join(self._gradio.tool_to_endpoint)
            raise InvalidRequest(f"There is no tool {name!r:.100}; the tools are {tools}.")
        try:
            call, sampling = endpoint.asked(arguments)
            params = SamplingParams(**sampling)

            def ask(runtime: FalconRuntime) -> Generation:
                return call(runtime, params)

            with self._clients.of(context.request.scope).calling(self._service.settings), ExitStack() as stack:
                (answer,) = self._service.answers(stack, None, [ask])
                return [TextContent(type="text", text=await self._text(answer, context))]
        except Exception as error:
            raise failure(error) from None

    async def _text(self, answer: Answer, context: Any) -> str:
        """All of an answer. A client that asked for it is told meanwhile how far it is."""
        update = Update(waiting_for=self._service.fleet.current.status)
        token = context.meta and context.meta.progressToken

        async def tell() -> None:
            step = 0
            with suppress(*CLOSED):
                while True:
                    await asyncio.sleep(PROGRESS_S)
                    step += 1
                    _, words = stats.state(update)
                    await context.session.send_progress_notification(
                        token, step, message=words, related_request_id=str(context.request_id)
                    )

        telling = None if token is None else asyncio.create_task(tell())
        try:
            await answer.begun()
            async for chunk in answer:
                update = Update(update.text + chunk.text, chunk.stats)
            return update.text
        finally:
            if telling:
                telling.cancel()


def _message(body: bytes) -> Any:
    """None where it is no JSON: the server says so."""
    with suppress(ValueError, RecursionError):
        return json.loads(body)


def _opening_session(send: Send) -> Send:
    """Gives a client its session, by which its requests are told from those of others."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (SESSION.encode(), secrets.token_hex(16).encode())]
        await send(message)

    return sending
