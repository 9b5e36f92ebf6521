"""What a response of `/v1/responses` puts out: messages and calls of functions, and the events that tell of them."""

from collections.abc import Iterator
from typing import Any

from ..text.calls import CallReader, Part
from . import formats


class Events:
    """Events in the order of their numbers."""

    def __init__(self) -> None:
        self._number = 0

    def event(self, kind: str, **fields: Any) -> str:
        event = formats.event({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1
        return event


class Output:
    """The items, made of an answer's parts, which `reader` tells, as they come."""

    def __init__(self, reader: CallReader, events: Events) -> None:
        self.items: list[dict[str, Any]] = []
        self._reader, self._events = reader, events

    def take(self, part: Part) -> Iterator[str]:
        """What is new."""
        if part.begins:
            call = self._reader.calls[part.call or 0]
            yield from self.end("completed")
            yield from self._begin(
                {
                    "id": formats.identifier("fc"),
                    "type": "function_call",
                    "status": "in_progress",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": "",
                }
            )
        elif part.call is not None:
            self.items[-1]["arguments"] += part.text
            yield self._told("function_call_arguments.delta", delta=part.text)
        else:
            yield from self.begin_message()
            self.items[-1]["content"][0]["text"] += part.text
            yield self._told("output_text.delta", content_index=0, delta=part.text, logprobs=[])

    def begin_message(self) -> Iterator[str]:
        """Unless there is one that can be gone on with."""
        if self.items and self.items[-1]["type"] == "message":
            return
        yield from self.end("completed")
        message = {"id": formats.identifier("msg"), "type": "message", "status": "in_progress", "role": "assistant"}
        yield from self._begin(message | {"content": []})
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.items[-1]["content"].append(part)
        yield self._told("content_part.added", content_index=0, part=part)

    def end(self, status: str) -> Iterator[str]:
        """The last item is all there is of it."""
        if not self.items or self.items[-1]["status"] != "in_progress":
            return
        item = self.items[-1]
        item["status"] = status
        if item["type"] == "message":
            (part,) = item["content"]
            yield self._told("output_text.done", content_index=0, text=part["text"], logprobs=[])
            yield self._told("content_part.done", content_index=0, part=part)
        else:
            yield self._told("function_call_arguments.done", name=item["name"], arguments=item["arguments"])
        yield self._events.event("response.output_item.done", output_index=len(self.items) - 1, item=item)

    def _begin(self, item: dict[str, Any]) -> Iterator[str]:
        self.items.append(item)
        yield self._events.event("response.output_item.added", output_index=len(self.items) - 1, item=item)

    def _told(self, kind: str, **fields: Any) -> str:
        place = {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}
        return self._events.event(f"response.{kind}", **place, **fields)
