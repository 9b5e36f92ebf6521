"""`POST /v1/responses`, for turns of text. Answers are not kept."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from ..chunk import Stats
from ..generation import Generation
from ..runtime import FalconRuntime
from . import formats
from .answers import whole
from .messages import with_system
from .requests import ResponseBody
from .service import Service


class Response:
    """One request. Errors of all it does: those of `FalconRuntime.chat`, and Unsupported."""

    def __init__(self, service: Service, body: ResponseBody, stack: ExitStack) -> None:
        """`stack` ends the answer."""
        self._service, self._body = service, body
        self._id, self._created = formats.identifier("resp"), formats.now()
        self._message = formats.identifier("msg")
        params, messages = body.params(service.room), body.messages()

        def ask(runtime: FalconRuntime) -> Generation:
            return runtime.chat(with_system(messages, runtime.defaults.system), params, whole=True)

        (self._answer,) = service.answers(stack, body.model, [ask])

    async def begin(self) -> FalconRuntime:
        """Returns when the model has taken the request."""
        return await self._answer.begun()

    async def whole(self, runtime: FalconRuntime) -> dict[str, Any]:
        answer = await whole(self._answer)
        self._service.metrics.count(answer.stats)
        return self._object(runtime, answer.text, formats.ending(answer.finish_reason), answer.stats)

    async def stream(self, runtime: FalconRuntime) -> AsyncIterator[str]:
        """The answer as the events that OpenAI's API has for it."""
        events = _Events()
        place = {"item_id": self._message, "output_index": 0, "content_index": 0}
        for kind in ("response.created", "response.in_progress"):
            yield events.event(kind, response=self._object(runtime))
        yield events.event(
            "response.output_item.added", output_index=0, item=self._item("", "in_progress") | {"content": []}
        )
        yield events.event("response.content_part.added", **place, part=_part(""))
        text, stats, ending = "", Stats(), None
        async for chunk in self._answer:
            text, stats, ending = text + chunk.text, chunk.stats, formats.ending(chunk.finish_reason)
            if chunk.text:
                yield events.event("response.output_text.delta", **place, delta=chunk.text, logprobs=[])
        self._service.metrics.count(stats)
        yield events.event("response.output_text.done", **place, text=text, logprobs=[])
        yield events.event("response.content_part.done", **place, part=_part(text))
        done = self._object(runtime, text, ending, stats)
        yield events.event("response.output_item.done", output_index=0, item=done["output"][0])
        yield events.event(f"response.{done['status']}", response=done)

    def _object(
        self, runtime: FalconRuntime, text: str = "", ending: str | None = None, stats: Stats | None = None
    ) -> dict[str, Any]:
        status = {None: "in_progress", "stop": "completed"}.get(ending, "incomplete")
        params = self._body.params(self._service.room).over(runtime.defaults.sampling)
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": self._body.instructions,
            "max_output_tokens": self._body.max_output_tokens,
            "metadata": self._body.metadata or {},
            "model": runtime.name,
            "output": [self._item(text, status)] if ending else [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": params.temperature,
            "text": {"format": self._format()},
            "tool_choice": "auto",
            "tools": [],
            "top_p": params.top_p,
            "truncation": "disabled",
            "usage": _usage(stats) if stats else None,
            "user": None,
        }

    def _format(self) -> dict[str, Any]:
        form = self._body.text and self._body.text.format
        return form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}

    def _item(self, text: str, status: str) -> dict[str, Any]:
        return {"id": self._message, "type": "message", "status": status, "role": "assistant", "content": [_part(text)]}


class _Events:
    """Events in the order of their numbers."""

    def __init__(self) -> None:
        self._number = 0

    def event(self, kind: str, **fields: Any) -> str:
        event = formats.event({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1
        return event


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(stats: Stats) -> dict[str, Any]:
    return {
        "input_tokens": stats.prompt_tokens,
        "input_tokens_details": {"cached_tokens": stats.cached_tokens},
        "output_tokens": stats.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": stats.prompt_tokens + stats.generated_tokens,
    }
