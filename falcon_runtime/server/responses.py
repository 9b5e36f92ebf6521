"""`POST /v1/responses`. Answers are not kept."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

from ..chunk import Stats
from ..generation import Generation
from ..runtime import FalconRuntime
from ..text.turns import as_json
from . import formats
from .answers import whole
from .messages import with_system
from .output import Events, Output
from .requests import ResponseBody
from .service import Service


class Response:
    """One request. Errors of all it does: those of `FalconRuntime.chat`, and Unsupported."""

    def __init__(self, service: Service, body: ResponseBody, stack: ExitStack) -> None:
        """`stack` ends the answer."""
        self._service, self._body = service, body
        self._id, self._created = formats.identifier("resp"), formats.now()
        params, messages = body.params(service.room), body.messages()
        tools = self._tools = body.functions(params)
        self._params, self._given = params, as_json("body", _given(body))

        def ask(runtime: FalconRuntime) -> Generation:
            return runtime.chat(with_system(messages, runtime.defaults.system), params, whole=True, tools=tools)

        (self._answer,) = service.answers(stack, body.model, [ask])

    async def begin(self) -> FalconRuntime:
        """Returns when the model has taken the request."""
        return await self._answer.begun()

    async def whole(self, runtime: FalconRuntime) -> dict[str, Any]:
        answer, reader = await whole(self._answer), self._answer.reader()
        self._service.metrics.count(answer.stats)
        output = Output(reader, Events())
        for part in [*reader.add(answer.text), *reader.end()]:
            list(output.take(part))
        ending = formats.chat_ending(answer.finish_reason, reader, named=True)
        list(self._ended(output, ending))
        return self._object(runtime, output, ending, answer.stats)

    async def stream(self, runtime: FalconRuntime) -> AsyncIterator[str]:
        """The answer as the events that OpenAI's API has for it."""
        events, reader = Events(), self._answer.reader()
        output = Output(reader, events)
        for kind in ("response.created", "response.in_progress"):
            yield events.event(kind, response=self._object(runtime, output))
        if not self._tools:
            for event in output.begin_message():
                yield event
        stats, ending = Stats(), None
        async for chunk in self._answer:
            stats = chunk.stats
            for part in [*reader.add(chunk.text), *(reader.end() if chunk.finish_reason else ())]:
                for event in output.take(part):
                    yield event
            ending = formats.chat_ending(chunk.finish_reason, reader, named=True)
        self._service.metrics.count(stats)
        for event in self._ended(output, ending):
            yield event
        done = self._object(runtime, output, ending, stats)
        yield events.event(f"response.{done['status']}", response=done)

    def _ended(self, output: Output, ending: str | None) -> Iterator[str]:
        if not output.items:
            yield from output.begin_message()
        yield from output.end(_status(ending))

    def _object(
        self, runtime: FalconRuntime, output: Output, ending: str | None = None, stats: Stats | None = None
    ) -> dict[str, Any]:
        status = _status(ending)
        params = self._params.over(runtime.defaults.sampling)
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "model": runtime.name,
            "output": output.items,
            "previous_response_id": None,
            "store": False,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "truncation": "disabled",
            "usage": _usage(stats) if stats else None,
            "user": None,
            **self._given,
        }


def _given(body: ResponseBody) -> dict[str, Any]:
    """What of a request comes back with its answer."""
    form = body.text and body.text.format
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "text": {"format": form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
    }


def _status(ending: str | None) -> str:
    return {None: "in_progress", "stop": "completed"}.get(ending, "incomplete")


def _usage(stats: Stats) -> dict[str, Any]:
    return {
        "input_tokens": stats.prompt_tokens,
        "input_tokens_details": {"cached_tokens": stats.cached_tokens},
        "output_tokens": stats.generated_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": stats.prompt_tokens + stats.generated_tokens,
    }
