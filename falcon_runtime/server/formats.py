"""Answers in the form of OpenAI's API."""

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from ..chunk import FinishReason, Stats, TokenLogprobs
from ..runtime import FalconRuntime
from ..text.calls import CallReader, Part

Decode = Callable[[Sequence[int]], str]

ENDINGS = {"stop": "stop", "length": "length", "repetition": "length", "time": "length", "cancelled": "length"}
"""What OpenAI's API calls an answer's end. One that repeats itself or takes too long is cut off, as by a limit."""


def identifier(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(12)}"


def now() -> int:
    """Seconds since 1970."""
    return int(datetime.now(UTC).timestamp())


def opened(id: str, kind: str, created: int, runtime: FalconRuntime, choices: list[dict[str, Any]]) -> dict[str, Any]:
    """What an object of the kind `kind` begins with."""
    manifest = runtime.manifest
    return {
        "id": id,
        "object": kind,
        "created": created,
        "model": runtime.name,
        "system_fingerprint": f"fp_{manifest.fingerprint}" if manifest else None,
        "choices": choices,
    }


def ending(reason: FinishReason | None) -> str | None:
    return None if reason is None else ENDINGS[reason]


def chat_ending(reason: FinishReason | None, reader: CallReader, named: bool) -> str | None:
    """What ends a chat's answer, whose calls `reader` has read. That a function is called that was asked for by its
    name is no news: OpenAI's API then says `stop`. An answer that ends because it repeats calls is whole."""
    whole = bool(reader.calls) and reader.calls[-1].whole and reason in ("stop", "repetition")
    return ("stop" if named else "tool_calls") if whole else ending(reason)


def chat_delta(part: Part, reader: CallReader) -> dict[str, Any]:
    """What is new of a chat's answer."""
    if part.call is None:
        return {"content": part.text}
    call = reader.calls[part.call]
    named = {"id": call.id, "type": "function"} if part.begins else {}
    function = {"name": call.name} if part.begins else {}
    return {"tool_calls": [{"index": part.call, **named, "function": function | {"arguments": part.text}}]}


def usage(stats: Sequence[Stats]) -> dict[str, Any]:
    """Of the choices of one request for each of its prompts: a prompt that they share counts once."""
    prompt, generated = sum(s.prompt_tokens for s in stats[:1]), sum(s.generated_tokens for s in stats)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": {"cached_tokens": sum(s.cached_tokens for s in stats[:1])},
        "completion_tokens_details": {
            "accepted_prediction_tokens": sum(s.accepted_tokens for s in stats),
            "rejected_prediction_tokens": sum(s.drafted_tokens - s.accepted_tokens for s in stats),
        },
    }


def total(usages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of what several prompts used."""
    first, *others = usages
    for other in others:
        first = {
            name: total([value, other[name]]) if isinstance(value, dict) else value + other[name]
            for name, value in first.items()
        }
    return first


def chat_logprobs(logprobs: Sequence[TokenLogprobs], decode: Decode) -> dict[str, Any]:
    """`logprobs` of a chat's choice."""

    def entry(token: int, logprob: float) -> dict[str, Any]:
        text = decode([token])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    return {
        "content": [
            entry(item.token_id, item.logprob) | {"top_logprobs": [entry(*other) for other in item.top]}
            for item in logprobs
        ],
        "refusal": None,
    }


def completion_logprobs(
    tokens: Sequence[int],
    logprobs: Sequence[TokenLogprobs | None],
    decode: Decode,
    offset: int,
) -> dict[str, Any]:
    """`logprobs` of a completion's choice whose text begins `offset` characters into the whole. The first token of a
    text has none."""
    texts = [decode([token]) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [item.logprob if item else None for item in logprobs],
        "top_logprobs": [
            # Tokens that spell the same share a key, which keeps the likelier one's.
            {decode([token]): logprob for token, logprob in reversed(item.top)} if item else None
            for item in logprobs
        ],
        "text_offset": offsets,
    }


def event(data: Any, name: str | None = None) -> str:
    """A server-sent event."""
    prefix = f"event: {name}\n" if name else ""
    return f"{prefix}data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n"
