"""`POST /v1/chat/completions`"""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from ..chunk import Stats
from ..generation import Generation
from ..runtime import FalconRuntime
from ..sampling import SamplingParams
from . import formats
from .answers import Ask, all_begun, together, whole
from .requests import ChatBody, messages_of, varied, with_system
from .service import Service


class Chat:
    """One request. Errors of all it does: those of `FalconRuntime.chat`, and Unsupported."""

    def __init__(self, service: Service, body: ChatBody, stack: ExitStack) -> None:
        """`stack` ends the answers."""
        self._service, self._body = service, body
        self._id, self._created = formats.identifier("chatcmpl"), formats.now()
        params = body.params(service.room)
        self._answers = service.answers(stack, body.model, [self._ask(varied(params, i)) for i in range(body.choices)])

    def _ask(self, params: SamplingParams) -> Ask:
        messages, variables = messages_of(self._body.messages), self._body.chat_template_kwargs

        def ask(runtime: FalconRuntime) -> Generation:
            turns = with_system(messages, runtime.defaults.system)
            return runtime.chat(turns, params, whole=True, template_variables=variables)

        return ask

    async def begin(self) -> FalconRuntime:
        """Returns when the model has taken the request."""
        return await all_begun(self._answers)

    async def whole(self, runtime: FalconRuntime) -> dict[str, Any]:
        answers = [await whole(answer) for answer in self._answers]
        for answer in answers:
            self._service.metrics.count(answer.stats)
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": formats.chat_logprobs(answer.logprobs, runtime.decode) if self._body.logprobs else None,
                "finish_reason": formats.ending(answer.finish_reason),
            }
            for number, answer in enumerate(answers)
        ]
        used = formats.usage([answer.stats for answer in answers])
        return self._object("chat.completion", runtime, choices) | {"usage": used}

    async def stream(self, runtime: FalconRuntime) -> AsyncIterator[str]:
        """The answers as server-sent events, which together are what `whole` gives."""
        for number in range(len(self._answers)):
            yield self._event(runtime, number, {"role": "assistant", "content": "", "refusal": None})
        stats = [Stats() for _ in self._answers]
        async for number, chunk in together(self._answers):
            logprobs = formats.chat_logprobs(chunk.logprobs, runtime.decode) if chunk.logprobs else None
            if chunk.text or logprobs:
                yield self._event(runtime, number, {"content": chunk.text}, logprobs)
            if chunk.finish_reason:
                stats[number] = chunk.stats
                self._service.metrics.count(chunk.stats)
                yield self._event(runtime, number, {}, ending=formats.ending(chunk.finish_reason))
        if self._body.counts_usage:
            yield formats.event(self._object("chat.completion.chunk", runtime, []) | {"usage": formats.usage(stats)})
        yield formats.event("[DONE]")

    def _event(
        self,
        runtime: FalconRuntime,
        number: int,
        delta: dict[str, Any],
        logprobs: dict[str, Any] | None = None,
        ending: str | None = None,
    ) -> str:
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": ending}
        no_usage = {"usage": None} if self._body.counts_usage else {}
        return formats.event(self._object("chat.completion.chunk", runtime, [choice]) | no_usage)

    def _object(self, kind: str, runtime: FalconRuntime, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return formats.opened(self._id, kind, self._created, runtime, choices)
