"""`POST /v1/completions`"""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

from ..chunk import Chunk, Stats, TokenLogprobs
from ..generation import Generation
from ..runtime import FalconRuntime
from ..sampling import SamplingParams
from . import formats
from .answers import Ask, all_begun, together
from .requests import CompletionBody, varied
from .service import Service


class Piece(NamedTuple):
    """What is new of a choice."""

    number: int
    text: str
    tokens: Sequence[int]
    logprobs: Sequence[TokenLogprobs | None]
    ending: str | None = None


class Completions:
    """One request: `n` choices for each prompt. Errors of all it does: those of `FalconRuntime.generate`, and
    Unsupported."""

    def __init__(self, service: Service, body: CompletionBody, stack: ExitStack) -> None:
        """`stack` ends the answers."""
        self._service, self._body = service, body
        self._id, self._created = formats.identifier("cmpl"), formats.now()
        service.check_room(len(body.prompts) * body.choices)  # Before there is anything for each of them.
        params = body.params(service.room)
        asks = [self._ask(prompt, varied(params, i)) for prompt in body.prompts for i in range(body.choices)]
        self._answers = service.answers(stack, body.model, asks)
        self._stats = [Stats() for _ in asks]

    @staticmethod
    def _ask(prompt: str | list[int], params: SamplingParams) -> Ask:
        def ask(runtime: FalconRuntime) -> Generation:
            return runtime.generate(prompt, params)

        return ask

    async def begin(self) -> FalconRuntime:
        """Returns when the model has taken the request."""
        return await all_begun(self._answers)

    async def whole(self, runtime: FalconRuntime) -> dict[str, Any]:
        pieces: list[list[Piece]] = [[] for _ in self._answers]
        async for piece in self._pieces(runtime):
            pieces[piece.number].append(piece)
        choices = []
        for number, parts in enumerate(pieces):
            tokens = [token for part in parts for token in part.tokens]
            logprobs = [item for part in parts for item in part.logprobs]
            whole = Piece(number, "".join(part.text for part in parts), tokens, logprobs, parts[-1].ending)
            choices.append(self._choice(runtime, whole, 0))
        return self._object(runtime, choices) | {"usage": self._usage()}

    async def stream(self, runtime: FalconRuntime) -> AsyncIterator[str]:
        """The choices as server-sent events, which together are what `whole` gives."""
        lengths = [0 for _ in self._answers]
        async for piece in self._pieces(runtime):
            choice = self._choice(runtime, piece, lengths[piece.number])
            lengths[piece.number] += len(piece.text)
            no_usage = {"usage": None} if self._body.counts_usage else {}
            yield formats.event(self._object(runtime, [choice]) | no_usage)
        if self._body.counts_usage:
            yield formats.event(self._object(runtime, []) | {"usage": self._usage()})
        yield formats.event("[DONE]")

    async def _pieces(self, runtime: FalconRuntime) -> AsyncIterator[Piece]:
        """What there is of the choices, as it comes; the prompt first where it is wanted."""
        echoed = set[int]()
        async for number, chunk in together(self._answers):
            if not (chunk.text or chunk.token_ids or chunk.finish_reason or chunk.prompt_logprobs):
                continue  # The prompt is being read.
            if self._body.echo and number not in echoed:
                echoed.add(number)
                yield self._prompt(runtime, number, chunk)
            ending = formats.ending(chunk.finish_reason)
            if ending:
                self._service.metrics.count(chunk.stats)
                # A token that nobody wants is generated all the same, and is not charged.
                stats = chunk.stats
                self._stats[number] = stats if self._body.writes else replace(stats, generated_tokens=0)
            if not self._body.writes:
                yield Piece(number, "", (), (), ending and "length")
            else:
                yield Piece(number, chunk.text, chunk.token_ids, chunk.logprobs, ending)

    def _prompt(self, runtime: FalconRuntime, number: int, chunk: Chunk) -> Piece:
        prompt, tokens = self._body.prompts[number // self._body.choices], self._answers[number].prompt
        text = prompt if isinstance(prompt, str) else runtime.decode(prompt)
        return Piece(number, text, tokens, [None, *chunk.prompt_logprobs])

    def _choice(self, runtime: FalconRuntime, piece: Piece, offset: int) -> dict[str, Any]:
        wanted = self._body.logprobs is not None
        return {
            "index": piece.number,
            "text": piece.text,
            "logprobs": formats.completion_logprobs(piece.tokens, piece.logprobs, runtime.decode, offset)
            if wanted
            else None,
            "finish_reason": piece.ending,
        }

    def _usage(self) -> dict[str, Any]:
        each = self._body.choices
        return formats.total([formats.usage(self._stats[i : i + each]) for i in range(0, len(self._stats), each)])

    def _object(self, runtime: FalconRuntime, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return formats.opened(self._id, "text_completion", self._created, runtime, choices)
