"""An answer on its way: the engine's steps as text."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import starmap, zip_longest
from typing import TYPE_CHECKING, Any

from .chunk import Chunk, TokenLogprobs
from .engine.step import Step
from .engine.stream import StepStream
from .text.calls import NO_CALLS, Calling, CallReader
from .text.stops import Piece, StopTexts
from .text.tokenizer import Detokenizer
from .text.transcripts import Record

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Generation:
    """An answer on its way: an iterator of `Chunk`, the last of which has a finish reason. Errors: EngineDied.

    `close` may be called from any thread and does not wait; the engine stops within one step.
    """

    def __init__(
        self,
        steps: StepStream,
        tokenizer: "PreTrainedTokenizerBase",
        prompt: list[int],
        stop: Sequence[str],
        dropped_messages: int = 0,
        record: Record | None = None,
        seconds: float | None = None,
        calling: Calling = NO_CALLS,
    ):
        self.prompt = tuple(prompt)
        """The prompt's token ids as the engine got them."""
        self._steps = steps
        self._detokenizer = Detokenizer(tokenizer, prompt)
        self._stops = StopTexts(stop)
        vocabulary = tokenizer.get_added_vocab() if stop else {}
        self._spelled = {vocabulary[text]: text for text in stop if text in vocabulary}
        """Special tokens, which have no text, that a stop text spells, or that calls of functions are written with."""
        self._spelled |= {token: text for text, token in calling.form.controls.items()}
        self._calling = calling
        self._dropped_messages = dropped_messages
        self._record = record
        self._seconds, self._ends = seconds, math.inf
        self._count = 0
        self._over = False

    def __iter__(self) -> "Generation":
        return self

    def __next__(self) -> Chunk:
        if self._over:
            raise StopIteration
        step = next(self._steps)
        # One token after the other, so that several at once, where drafts were accepted, end like the same ones alone.
        passed = [self._stops.add(piece) for piece in starmap(self._piece, zip_longest(step.token_ids, step.logprobs))]
        finish = step.finish_reason
        if self._stops.met:
            finish = "stop"
            self._steps.close()
        elif finish is None and self._is_out_of_time(step):
            finish = "time"
            self._steps.close()
        self._over = finish is not None
        if self._over:
            passed.append(self._stops.rest())
        pieces = [piece for _, some in passed for piece in some]
        self._count += len(pieces)
        stats = replace(step.stats, generated_tokens=self._count, dropped_messages=self._dropped_messages)
        return Chunk(
            "".join(text for text, _ in passed),
            tuple(piece.token for piece in pieces),
            finish,
            stats,
            tuple(piece.logprobs for piece in pieces if piece.logprobs),
            step.scores,
        )

    def _is_out_of_time(self, step: Step) -> bool:
        if self._seconds and self._ends == math.inf and not step.stats.queue_position:
            self._ends = time.monotonic() + self._seconds
        return time.monotonic() > self._ends

    def _piece(self, token: int, logprobs: TokenLogprobs | None) -> Piece:
        text = self._detokenizer.add(token)
        if self._record:
            self._record(token, text)
        return Piece(token, self._spelled.get(token, text), logprobs)

    def reader(self) -> CallReader:
        """What tells calls of functions from words in this answer's text: a new one, for who reads it from the
        beginning."""
        return CallReader(self._calling)

    def message(self) -> dict[str, Any]:
        """All that is left of the answer, as a message in the form of OpenAI's API, to go on with in a conversation."""
        reader = self.reader()
        for chunk in self:
            reader.add(chunk.text)
        reader.end()
        return reader.message

    def close(self) -> None:
        self._steps.close()

    def __del__(self) -> None:
        self.close()
