"""The HTTP API: OpenAI's, so that every client of that can use these models."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from .. import __doc__ as DESCRIPTION
from ..errors import UnknownModel
from ..fleet import Fleet
from ..models.library import Choice
from ..runtime import FalconRuntime
from . import formats
from .answers import Gone, unless_gone
from .chat import Chat
from .clients import Clients
from .completions import Completions
from .failures import Failure, failure, malformed
from .gate import Gate
from .metrics import Metrics
from .requests import Body, ChatBody, CompletionBody, ResponseBody
from .responses import Response as ModelResponse
from .service import Service
from .settings import ServerSettings

B = TypeVar("B", bound=Body, contravariant=True)


class Work(Protocol):
    """A request that is being answered."""

    async def begin(self) -> FalconRuntime: ...
    async def whole(self, runtime: FalconRuntime) -> dict[str, Any]: ...
    def stream(self, runtime: FalconRuntime) -> AsyncIterator[str]: ...


class Kind(Protocol[B]):
    """What makes a `Work` of a body; the stack ends it."""

    def __call__(self, service: Service, body: B, stack: ExitStack) -> Work: ...


def create_app(fleet: Fleet, settings: ServerSettings, clients: Clients | None = None) -> ASGIApp:
    """The API of a fleet, as an ASGI application. `clients` are those that are counted elsewhere too."""
    return Gate(endpoints(Service(fleet, settings, Metrics(fleet))), settings, clients or Clients(settings))


def endpoints(service: Service) -> FastAPI:
    """All of it but what keeps clients within their limits."""
    app = FastAPI(title="Falcon on ExecuTorch", description=DESCRIPTION or "", redoc_url=None)
    app.include_router(_models(service))
    app.include_router(_answering(service))
    app.include_router(_watching(service))
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _nothing_here)
    return app


def _models(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["models"])

    @router.get("/models")
    def models() -> dict[str, Any]:
        """The models that can be asked: the current one, and those that are converted."""
        return {"object": "list", "data": [_model(name, choice) for name, choice in service.models().items()]}

    @router.get("/models/{name:path}")
    def model(name: str) -> Response:
        """One of them."""
        try:
            found = service.find(name) or service.fleet.current.name
        except UnknownModel as error:
            return failure(error).response()
        return JSONResponse(_model(found, service.models()[found]))

    return router


def _model(name: str, choice: Choice | None) -> dict[str, Any]:
    facts = {"max_model_len": choice.context, "slots": choice.slots, "recipe": choice.recipe} if choice else {}
    return {"id": name, "object": "model", "created": 0, "owned_by": "falcon_runtime", **facts}


def _answering(service: Service) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["answers"])

    @router.post("/chat/completions")
    async def chat(request: Request, body: ChatBody) -> Response:
        """Answers the last message of a conversation."""
        return await answered(service, Chat, body, request)

    @router.post("/completions")
    async def completions(request: Request, body: CompletionBody) -> Response:
        """Continues a text."""
        return await answered(service, Completions, body, request)

    @router.post("/responses")
    async def responses(request: Request, body: ResponseBody) -> Response:
        """Answers a message or a conversation. Nothing is kept: `store` has no effect."""
        return await answered(service, ModelResponse, body, request)

    return router


async def answered(service: Service, kind: Kind[B], body: B, request: Request) -> Response:
    """The answer to a request, whole or as a stream. Whatever ends it, the engine is free within one step."""
    endpoint = request.url.path
    stack = ExitStack()
    try:
        work = kind(service, body, stack)
        runtime = await unless_gone(request, work.begin())
        if body.stream:
            service.metrics.requests.labels(endpoint, 200).inc()
            kept = stack.pop_all()
            events = _guarded(work.stream(runtime), kept)
            return StreamingResponse(
                events,
                media_type="text/event-stream",
                headers={"Cache-Control": "no-store"},
                background=BackgroundTask(kept.close),  # A stream whose reader has gone at once is never begun.
            )
        whole = await unless_gone(request, work.whole(runtime))
        service.metrics.requests.labels(endpoint, 200).inc()
        return JSONResponse(whole)
    except Gone:
        return Response(status_code=499)
    except Exception as error:
        failed = failure(error)
        service.metrics.requests.labels(endpoint, failed.status).inc()
        return failed.response()
    finally:
        stack.close()


async def _guarded(events: AsyncIterator[str], stack: ExitStack) -> AsyncIterator[str]:
    """The events, where an error becomes one more of them. `stack` is closed with them."""
    with stack:
        try:
            async for event in events:
                yield event
        except Exception as error:
            yield formats.event({"error": failure(error).error})


def _watching(service: Service) -> APIRouter:
    router = APIRouter(tags=["watching"])

    @router.get("/health")
    @router.get("/health/live")
    def live() -> dict[str, Any]:
        """The server runs, whatever its model does."""
        runtime = service.fleet.current
        return {"status": "ok", "model": runtime.name, "state": str(runtime.status)}

    @router.get("/health/ready")
    def ready() -> Response:
        """200 where the current model can answer now, else 503."""
        runtime = service.fleet.current
        able = runtime.status.state == "ready"
        return JSONResponse({"ready": able, "model": runtime.name, "state": str(runtime.status)}, 200 if able else 503)

    @router.get("/metrics")
    def metrics() -> Response:
        """What the server has done and does, in the format of Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    return router


async def _malformed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(item["type"] == "json_invalid" for item in error.errors()):
        return Failure(400, "The body is not JSON.", "invalid_request_error").response()
    return malformed(error.errors()).response()


async def _nothing_here(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Failure(error.status_code, f"{error.detail}.", "invalid_request_error").response()
