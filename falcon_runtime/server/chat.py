"""`POST /v1/chat/completions`"""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

from ..chunk import FinishReason, Stats
from ..generation import Generation
from ..runtime import FalconRuntime
from ..sampling import SamplingParams
from ..text.calls import CallReader
from ..text.turns import Message
from . import formats
from .answers import Ask, all_begun, together, whole
from .messages import messages_of, with_system
from .requests import ChatBody, varied
from .service import Service


class Chat:
    """One request. Errors of all it does: those of `FalconRuntime.chat`, and Unsupported."""

    def __init__(self, service: Service, body: ChatBody, stack: ExitStack) -> None:
        """`stack` ends the answers."""
        self._service, self._body = service, body
        self._id, self._created = formats.identifier("chatcmpl"), formats.now()
        params = body.params(service.room)
        self._tools = body.functions(params)
        messages = messages_of(body.messages)
        asks = [self._ask(messages, varied(params, i)) for i in range(body.choices)]
        self._answers = service.answers(stack, body.model, asks)

    def _ask(self, messages: list[Message], params: SamplingParams) -> Ask:
        variables, tools = self._body.chat_template_kwargs, self._tools

        def ask(runtime: FalconRuntime) -> Generation:
            turns = with_system(messages, runtime.defaults.system)
            return runtime.chat(turns, params, whole=True, template_variables=variables, tools=tools)

        return ask

    async def begin(self) -> FalconRuntime:
        """Returns when the model has taken the request."""
        return await all_begun(self._answers)

    async def whole(self, runtime: FalconRuntime) -> dict[str, Any]:
        answers = [await whole(answer) for answer in self._answers]
        choices = []
        for number, (answer, reader) in enumerate(zip(answers, self._readers(), strict=True)):
            self._service.metrics.count(answer.stats)
            reader.add(answer.text)
            reader.end()
            choices.append(
                {
                    "index": number,
                    "message": reader.message | {"content": reader.content or self._nothing, "refusal": None},
                    "logprobs": formats.chat_logprobs(answer.logprobs, runtime.decode) if self._body.logprobs else None,
                    "finish_reason": self._ending(answer.finish_reason, reader),
                }
            )
        used = formats.usage([answer.stats for answer in answers])
        return self._object("chat.completion", runtime, choices) | {"usage": used}

    async def stream(self, runtime: FalconRuntime) -> AsyncIterator[str]:
        """The answers as server-sent events, which together are what `whole` gives."""
        for number in range(len(self._answers)):
            yield self._event(runtime, number, {"role": "assistant", "content": self._nothing, "refusal": None})
        readers = self._readers()
        stats = [Stats() for _ in self._answers]
        async for number, chunk in together(self._answers):
            logprobs = formats.chat_logprobs(chunk.logprobs, runtime.decode) if chunk.logprobs else None
            reader = readers[number]
            parts = [*reader.add(chunk.text), *(reader.end() if chunk.finish_reason else ())]
            deltas = [formats.chat_delta(part, reader) for part in parts]
            if logprobs and not deltas:
                deltas = [{"content": self._nothing}]
            for delta in deltas:
                yield self._event(runtime, number, delta, logprobs)
                logprobs = None
            if chunk.finish_reason:
                stats[number] = chunk.stats
                self._service.metrics.count(chunk.stats)
                yield self._event(runtime, number, {}, ending=self._ending(chunk.finish_reason, reader))
        if self._body.counts_usage:
            yield formats.event(self._object("chat.completion.chunk", runtime, []) | {"usage": formats.usage(stats)})
        yield formats.event("[DONE]")

    @property
    def _nothing(self) -> str | None:
        """The content of an answer without words: where there are tools, it may be calls."""
        return None if self._tools and self._tools.shown else ""

    def _readers(self) -> list[CallReader]:
        return [answer.reader() for answer in self._answers]

    def _ending(self, reason: FinishReason | None, reader: CallReader) -> str | None:
        return formats.chat_ending(reason, reader, named=bool(self._tools and self._tools.named))

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
