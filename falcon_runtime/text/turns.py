"""Messages, in the form of OpenAI's API, as the turns of a conversation."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidRequest
from ..system.unicode import whole

Message = Mapping[str, Any]
"""`{"role": "system" | "user" | "assistant" | "tool", "content": text}`; the content may also be a list of text parts,
as in OpenAI's API: `[{"type": "text", "text": text}]`. The assistant's may have `tool_calls`, and then no content:
`[{"id": …, "type": "function", "function": {"name": …, "arguments": JSON}}]`. A tool's is the result of one of them,
which it names: `"tool_call_id": …`."""

ROLES = ("system", "user", "assistant", "tool")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Names of functions."""
DEEPEST = 64
"""Levels of objects and lists in each other."""


@dataclass(frozen=True)
class Call:
    """A function that the assistant has called."""

    id: str
    """Nine digits, its number in the conversation: some templates take no others, and nobody can hide words in it."""
    name: str
    arguments: Any
    """An object; a text where what the model wrote is none."""


@dataclass(frozen=True)
class Turn:
    role: str
    content: str
    calls: tuple[Call, ...] = ()
    """What the assistant calls."""
    answered: Call | None = None
    """Whose result a tool's turn is."""


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """Errors: InvalidRequest where a message has not that form, and where calls and their results do not match."""
    turns: list[Turn] = []
    waiting: dict[str, Call] = {}
    """Calls whose results must come next, by the ids that the messages have for them."""
    count = 0
    for number, message in enumerate(messages):
        place, role = f"messages.{number}", _role(message)
        if role == "tool":
            call = _taken(place, message.get("tool_call_id"), waiting)
            turns.append(Turn(role, whole(_content(message)), answered=call))
            continue
        if waiting:
            raise InvalidRequest(f"{place}: {_missing(waiting)}")
        given = message.get("tool_calls")
        if given and role != "assistant":
            raise InvalidRequest(f"{place}.tool_calls: only the assistant calls tools, not {role}.")
        waiting = _calls(f"{place}.tool_calls", given, count) if given else {}
        count += len(waiting)
        content = "" if waiting and message.get("content") is None else _content(message)
        turns.append(Turn(role, whole(content), tuple(waiting.values())))
    if waiting:
        raise InvalidRequest(f"messages: {_missing(waiting)}")
    return turns


def as_json(place: str, value: Any) -> Any:
    """A copy of what JSON can say. Errors: InvalidRequest where it cannot, or is nested too deeply."""
    try:
        copy = json.loads(whole(json.dumps(value, ensure_ascii=False, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{place}: it cannot be written as JSON: {error!s:.200}.") from None
    if _is_deep(copy):
        raise InvalidRequest(f"{place}: it has more than {DEEPEST} levels.")
    return copy


def check_name(place: str, name: Any) -> str:
    """Errors: InvalidRequest where it is no name of a function."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{place}: a function's name has 1 to 64 letters, digits, underscores and hyphens; {name!r:.100} is not "
            "one."
        )
    return name


def _calls(place: str, given: Any, before: int) -> dict[str, Call]:
    """The calls of a message by their ids, after `before` others."""
    calls: dict[str, Call] = {}
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidRequest(f"{place}: it must be a list of calls, not {given!r:.100}.")
    for number, item in enumerate(given):
        here = f"{place}.{number}"
        if not isinstance(item, Mapping) or not isinstance(function := item.get("function"), Mapping):
            raise InvalidRequest(f"{here}: it must be a call of a function, not {item!r:.100}.")
        id = item.get("id")
        if not isinstance(id, str) or not id or id in calls:
            raise InvalidRequest(f"{here}.id: each call needs an id of its own, not {id!r:.100}.")
        name = check_name(f"{here}.function.name", function.get("name"))
        arguments = _arguments(f"{here}.function.arguments", function.get("arguments"))
        calls[id] = Call(f"{before + number + 1:09}", name, arguments)
    return calls


def _arguments(place: str, given: Any) -> Any:
    if isinstance(given, Mapping):
        return as_json(place, given)
    if not isinstance(given, str):
        raise InvalidRequest(f"{place}: they must be a text of JSON, not {given!r:.100}.")
    try:
        value = json.loads(given)
    except (ValueError, RecursionError):  # A model may have written this, or an answer was cut off.
        value = None
    return value if isinstance(value, dict) and not _is_deep(value) else whole(given)


def _taken(place: str, id: Any, waiting: dict[str, Call]) -> Call:
    if not isinstance(id, str) or id not in waiting:
        raise InvalidRequest(
            f"{place}.tool_call_id: {id!r:.100} is none of the calls just before it whose results are missing."
        )
    return waiting.pop(id)


def _missing(waiting: Mapping[str, Call]) -> str:
    names = ", ".join(f"{id!r:.100}" for id in waiting)
    return (
        f"the assistant has called tools, and the results of {names} are missing. Send each in a message of role tool."
    )


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
    return bool(level)


def _role(message: Message) -> str:
    role = message.get("role") if isinstance(message, Mapping) else None
    if role not in ROLES:
        raise InvalidRequest(f"A message must have a role, one of {', '.join(ROLES)}; {message!r:.200} has none.")
    return str(role)


def _content(message: Message) -> str:
    content = message.get("content")
    parts = [{"text": content}] if isinstance(content, str) else content
    if isinstance(parts, Sequence) and all(isinstance(part, Mapping) for part in parts):
        texts = [text for part in parts if isinstance(text := part.get("text"), str)]
        if len(texts) == len(parts):
            return "".join(texts)
    raise InvalidRequest(f"A message's content must be text, not {content!r:.200}.")
