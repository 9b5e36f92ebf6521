"""What goes wrong, in the form of OpenAI's API: `{"error": {"message", "type", "param", "code"}}` and a status."""

import logging
import traceback
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse

from ..errors import FalconError, InvalidRequest, NotEnoughMemory, PromptTooLong, UnknownModel
from .clients import TooManyRequests

logger = logging.getLogger(__name__)
RETRY_S = 5
OWN_FAULT = "The server could not handle this request because of an internal error; its log has the details."


class Unsupported(InvalidRequest):
    """A field of OpenAI's API that would change the answer, and that is not there."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


class NotReady(FalconError):
    """The model is being loaded, and requests do not wait for it here."""


class Failure(Exception):
    """What a request ends with: the status and the error's fields."""

    def __init__(
        self, status: int, message: str, type: str, code: str | None = None, param: str | None = None, retry_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.retry_s = status, retry_s
        self.error: dict[str, Any] = {"message": message, "type": type, "param": param, "code": code}

    def response(self) -> JSONResponse:
        headers = {"Retry-After": str(self.retry_s)} if self.retry_s else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": self.error}, self.status, headers)


def failure(error: Exception) -> Failure:
    """What `error` is for the client. One that nobody foresaw is logged, without its words, in which there may be what
    the client has written."""
    words = str(error)
    match error:
        case Failure():
            return error
        case Unsupported():
            return Failure(400, words, "invalid_request_error", "unsupported_parameter", error.field)
        case PromptTooLong():
            return Failure(400, words, "invalid_request_error", "context_length_exceeded", "messages")
        case InvalidRequest():
            return Failure(400, words, "invalid_request_error", None, _parameter(words))
        case UnknownModel():
            return Failure(404, words, "invalid_request_error", "model_not_found", "model")
        case TooManyRequests():
            return Failure(429, words, "rate_limit_error", "rate_limit_exceeded", retry_s=error.retry_s)
        case NotEnoughMemory() | NotReady():
            return Failure(503, words, "server_error", "model_not_ready", retry_s=RETRY_S)
        case FalconError():
            return Failure(503, words, "server_error", type(error).__name__, retry_s=RETRY_S)
        case ValidationError():
            return malformed(error.errors())
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("a request failed with %s:\n%s", type(error).__name__, where)
    return Failure(500, OWN_FAULT, "server_error", "internal_error")


def malformed(errors: Any) -> Failure:
    """A body that does not have the form that it should, told by pydantic's errors."""
    # The places of what a union might have been instead are long, and say nothing more.
    places = [".".join(str(part) for part in item["loc"] if part != "body") for item in errors]
    sentences = [
        f"{place or 'the body'}: {item['msg'][:1].lower()}{item['msg'][1:]}"
        for place, item in zip(places, errors, strict=True)
    ]
    message = "; ".join(dict.fromkeys(sentences))[:1000]
    return Failure(422, message, "invalid_request_error", None, places[0].split(".")[0] or None if places else None)


def _parameter(words: str) -> str | None:
    """The parameter that a sentence begins with: `temperature: …`, or `messages.2.tool_call_id: …`."""
    name = words.partition(":")[0]
    return name if all(part.isidentifier() or part.isdecimal() for part in name.split(".")) else None
