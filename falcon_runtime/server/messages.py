"""Messages, in the forms that OpenAI's API has for them, as the library takes them."""

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest
from ..text.turns import Message, turns_of
from .failures import Unsupported

TEXTS = ("text", "input_text", "output_text", "refusal")
"""Types of parts that are text."""


def messages_of(messages: list[dict[str, Any]]) -> list[Message]:
    """The messages in the form of the library. Errors: InvalidRequest, Unsupported."""
    told: list[Message] = [_message(f"messages.{number}", message) for number, message in enumerate(messages)]
    turns_of(told)  # Calls and results are looked at before anybody waits for a model.
    return told


def messages_of_items(items: list[dict[str, Any]]) -> list[Message]:
    """The items that `/v1/responses` gets as messages. Errors: InvalidRequest, Unsupported."""
    told: list[dict[str, Any]] = []
    for number, item in enumerate(items):
        place, kind = f"input.{number}", item.get("type", "message")
        if kind == "message":
            message = _message(place, item)
            told.append({"role": message["role"], "content": message["content"]})
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if not told or told[-1]["role"] != "assistant":
                told.append({"role": "assistant", "content": ""})
            told[-1].setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            output = text_of(f"{place}.output", item.get("output"))
            told.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})
        else:
            raise Unsupported(place, f"items of type {kind!r:.100} are not supported.")
    try:
        turns_of(told)
    except InvalidRequest as error:  # It names the message, of which there are fewer than items.
        raise InvalidRequest(f"input: {str(error).partition(': ')[2]}") from None
    return list(told)


def with_system(messages: list[Message], default: str) -> list[Message]:
    """The messages, with the model's `default` system prompt where they have none; an empty one is for none at all."""
    if default and not any(message["role"] == "system" for message in messages):
        return [{"role": "system", "content": default}, *messages]
    return [message for message in messages if message["role"] != "system" or message["content"].strip()]


def _message(place: str, message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    if role == "developer":
        role = "system"
    if role not in ("system", "user", "assistant", "tool"):
        raise InvalidRequest(f"{place}.role: it must be system, developer, user, assistant or tool, not {role!r:.100}.")
    calls = {name: message[name] for name in ("tool_calls", "tool_call_id") if message.get(name)}
    return {"role": role, "content": text_of(f"{place}.content", message.get("content")), **calls}


def text_of(place: str, content: Any) -> str:
    """The text of a content: a string, or parts of type `text`. Errors: InvalidRequest, Unsupported."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{place}: it must be text or a list of parts, not {content!r:.100}.")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind not in TEXTS:
            raise Unsupported(place, f"the model reads text only, no part of type {kind!r:.100}.")
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise InvalidRequest(f"{place}: a part of type {kind!r} must have a text.")
        texts.append(text)
    return "".join(texts)
