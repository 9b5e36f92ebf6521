"""What the command line has of a conversation: the questions that it reads, and the answers that it prints."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from ..chunk import FinishReason, Stats
from ..generation import Generation
from ..models.defaults import Defaults
from ..sampling import SamplingParams
from ..system.unicode import whole
from .notes import note


def read_messages() -> Iterator[str]:
    """What the user says until the input ends. On a terminal, lines that are pasted together are one message, and there
    is line editing with a history; otherwise each line is a message."""
    read: Callable[[], str] = input
    if sys.stdin.isatty():
        from prompt_toolkit import PromptSession
        from prompt_toolkit.output import create_output

        read = partial(PromptSession[str](output=create_output(always_prefer_tty=True)).prompt, "> ")
    with suppress(EOFError):
        while True:
            yield whole(read())


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


def print_answer(generation: Generation) -> str:
    """Prints the answer as it comes, then its statistics; returns it. Ctrl-C ends the answer and not the program."""
    text, stats, finish = "", Stats(), None
    try:
        for chunk in generation:
            print(chunk.text, end="", flush=True)
            text, stats, finish = text + chunk.text, chunk.stats, chunk.finish_reason
    except KeyboardInterrupt:
        generation.close()
    print(flush=True)
    note(f"[{summary(stats, finish)}]")
    return text


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
