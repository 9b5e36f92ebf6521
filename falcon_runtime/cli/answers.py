"""Answers on the command line: printed as they come, or with `--json` as one object each."""

import dataclasses
import shlex
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from ..chunk import Chunk, FinishReason, Stats
from ..generation import Generation
from ..models.defaults import Defaults
from ..sampling import SamplingParams
from .notes import NOTES
from .output import write, write_json

Handler = Callable[[int, FrameType | None], Any]


class Interrupts:
    """Has Ctrl-C end the answer that is on its way, and not the program. `otherwise` handles it while there is none."""

    def __init__(self, otherwise: Handler = signal.default_int_handler) -> None:
        self._otherwise = otherwise
        self._answering = False
        self._generation: Generation | None = None
        self.interrupted = False
        """Whether the last answer was."""

    def __enter__(self) -> "Interrupts":
        self._former = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._former)

    def chunks(self, ask: Callable[[], Generation]) -> Iterator[Chunk]:
        """The chunks of an answer, to its end or to Ctrl-C. Errors: those of `ask`, and EngineDied."""
        self._answering, self.interrupted = True, False
        try:
            self._generation = ask()
            if self.interrupted:
                self._generation.close()
            yield from self._generation
        finally:
            self._answering, self._generation = False, None

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._answering:
            self._otherwise(number, frame)
            return
        self.interrupted = True
        if self._generation:
            # In a thread, as the code that was interrupted may hold a lock that this needs.
            threading.Thread(target=self._generation.close, daemon=True).start()


def print_answer(chunks: Iterable[Chunk], prompt: str = "") -> str:
    """Prints an answer as it comes, after its `prompt`, then its statistics; returns its text."""
    text, stats, finish, begun = "", Stats(), None, False
    try:
        for chunk in chunks:
            write(chunk.text if begun else prompt + chunk.text, end="")
            text, stats, finish, begun = text + chunk.text, chunk.stats, chunk.finish_reason, True
    finally:
        if begun:
            write("")
    NOTES.note(f"[{summary(stats, finish)}]")
    return text


def print_object(chunks: Iterable[Chunk], params: SamplingParams) -> str:
    """Prints an answer as one JSON object when it has ended; returns its text."""
    all_of_it = list(chunks)
    logprobs = [dataclasses.asdict(token) for chunk in all_of_it for token in chunk.logprobs]
    of_prompt = [dataclasses.asdict(token) for chunk in all_of_it for token in chunk.prompt_logprobs]
    text = "".join(chunk.text for chunk in all_of_it)
    write_json(
        {
            "text": text,
            "token_ids": [token for chunk in all_of_it for token in chunk.token_ids],
            "finish_reason": all_of_it[-1].finish_reason,
            **({"logprobs": logprobs} if params.logprobs is not None else {}),
            **({"prompt_logprobs": of_prompt} if params.prompt_logprobs is not None else {}),
            "stats": dataclasses.asdict(all_of_it[-1].stats),
        }
    )
    return text


def defaults_in_use(params: SamplingParams, system: str | None, defaults: Defaults) -> str:
    """The model's defaults that `params` and `system` (None: not given) leave as they are, written as flags."""
    names = {"max_new_tokens", "temperature"} | defaults.sampling.model_fields_set
    flags = [
        f"--{name.replace('_', '-')} {getattr(defaults.sampling, name)}"
        for name in SamplingParams.model_fields
        if name in names - params.model_fields_set
    ]
    if system is None:
        flags.append(f"--system {shlex.quote(defaults.system)}")
    return " ".join(flags) or "none"


def summary(stats: Stats, finish: FinishReason | None) -> str:
    prefill, decode = stats.prefill_tokens_per_second or 0, stats.decode_tokens_per_second or 0
    drafts = f", {stats.drafted_tokens} drafted and {stats.accepted_tokens} accepted" if stats.drafted_tokens else ""
    if stats.drafted_by_model:
        drafts += f" ({stats.drafted_by_model} and {stats.accepted_by_model} by {stats.draft_model})"
    dropped = f", oldest messages left out: {stats.dropped_messages}" if stats.dropped_messages else ""
    return (
        f"prefill {stats.prompt_tokens} tokens ({stats.cached_tokens} cached) at {prefill:.0f}/s, "
        f"decode {stats.generated_tokens} at {decode:.0f}/s{drafts}{dropped}{ending(stats, finish)}"
    )


def ending(stats: Stats, finish: FinishReason | None) -> str:
    """Why an answer ended before its end, and what helps."""
    if finish == "repetition":
        return (
            "; it began to repeat itself: a higher --temperature or --repetition-penalty 1.1 may help, and "
            "--no-stop-on-repetition lets it go on"
        )
    if finish == "length" and stats.prompt_tokens + stats.generated_tokens >= stats.context:
        return "; the context is full: a shorter prompt leaves more room"
    if finish == "length":
        return "; that was the limit: a higher --max-new-tokens lets it go on"
    return ""
