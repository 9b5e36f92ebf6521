"""Calls of functions in what a model writes, told from its words as both come.

Calls are JSON, an object with `name` and `arguments` (or `parameters`) or a list of such, between the tags of a form of
calls or those of Hermes, `<tool_call>` and `</tool_call>`; or they are the whole answer, as Llama 3 has it. What names
no function that is known is no call, and stays text.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import regex

from .call_form import HERMES, CallForm
from .stops import partial_stop
from .turns import DEEPEST

Held = Literal["free", "auto", "forced"]
"""What a grammar held an answer to: nothing; calls, once one of its form has begun; calls and nothing else."""

_FURTHER = r'"(?:id|type)"\s*+:\s*+"[^"\\{}\[\]]*+"'
"""What may stand beside the name and the arguments."""
_NESTED = r'(?:[^{}\[\]"]|(?&text)|(?&object)|(?&list))*+'
_DEFINITIONS = rf'(?(DEFINE)(?P<text>"(?:[^"\\]|\\.)*+")(?P<object>\{{{_NESTED}\}})(?P<list>\[{_NESTED}\]))'
_BRACKETS = regex.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\]]', regex.DOTALL)
_OUTSIDE_OF_STRINGS = frozenset(" \t\r\n,:+-.0123456789truefalsnEe")
"""All that JSON has there, but brackets."""


@dataclass(frozen=True)
class Calling:
    """Which calls an answer may have."""

    names: tuple[str, ...]
    """Of the functions that may be called."""
    form: CallForm = HERMES
    held: Held = "free"

    @cached_property
    def patterns(self) -> "Patterns":
        """To make them takes some hundredths of a second."""
        return Patterns(self.names, self.form)


NO_CALLS = Calling(())


@dataclass(frozen=True)
class Part:
    """What is new in an answer: of its words or, where there is a `call`, of the arguments of that one."""

    text: str
    call: int | None = None
    """The number of the call in the answer."""
    begins: bool = False
    """Whether the call does; there is no text of its arguments yet."""


@dataclass
class CallRead:
    name: str
    arguments: str = ""
    """JSON, as the model wrote it."""
    whole: bool = False
    """Whether all of it has come."""
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")


class CallReader:
    """Takes an answer as it comes. Whatever the pieces, their parts join to the same.

    Text that may be the beginning of a call is held back until that is known; so is white space before it, which
    belongs to it.
    """

    def __init__(self, calling: Calling) -> None:
        self.content = ""
        self.calls: list[CallRead] = []
        form = self._form = calling.form
        self._held = calling.held
        self._buffer = ""
        self._due = 0
        """How long the buffer must be to be looked at again: what is held back is matched from its beginning, so were
        that done with every piece, long answers would take time that grows with the square of their length."""
        self._parts: list[Part] = []
        self._calling = calling
        self._tags = {form.opening: form.closing, HERMES.opening: HERMES.closing} if calling.names else {}
        self._tags.pop("", None)
        self._closing = ""
        self._object = _Object()
        self._after_call = False
        """Whether a call is the last that came, but for white space."""
        self._state: Callable[[], bool] = self._beginning if calling.names else self._words
        """Takes what it can from the buffer; whether another state goes on with the rest."""

    @property
    def message(self) -> dict[str, Any]:
        """The answer so far, as a message that a conversation can go on with."""
        if not self.calls:
            return {"role": "assistant", "content": self.content}
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in self.calls
        ]
        return {"role": "assistant", "content": self.content or None, "tool_calls": calls}

    def add(self, text: str) -> list[Part]:
        """Takes the next piece of the answer; what is known by now."""
        self._buffer += text
        if len(self._buffer) >= self._due:
            self._go_on()
            self._due = len(self._buffer) * 9 // 8
        return self._taken()

    def end(self) -> list[Part]:
        """What is still held back when the answer has ended. What a call has begun with is left out."""
        self._go_on()
        if self._state == self._beginning and not self._whole_answer():
            self._state = self._words
            if self._held != "forced":
                self._go_on()
        if self._state == self._broken or (self._state == self._words and not self._is_markup()):
            self._say(self._buffer)
        self._buffer = ""
        return self._taken()

    def _go_on(self) -> None:
        while self._state():
            pass

    def _taken(self) -> list[Part]:
        parts, self._parts = self._parts, []
        return parts

    # The states

    def _beginning(self) -> bool:
        """The answer may be nothing but calls."""
        if self._held != "free":
            if (match := self._calling.patterns.exact.match(self._buffer, partial=True)) and not match.partial:
                return self._called(match, "")
            if match:
                return False
        if not _is_deep(self._buffer, 0) and self._calling.patterns.alone.fullmatch(self._buffer, partial=True):
            return False
        self._state = self._words
        return True

    def _words(self) -> bool:
        at, tag = min(((i, tag) for tag in self._tags if (i := self._buffer.find(tag)) >= 0), default=(-1, ""))
        if at < 0:
            self._say_before(len(self._buffer) - partial_stop(self._buffer, tuple(self._tags)))
            return False
        match = self._calling.patterns.first.match(self._buffer, at + len(tag))
        if match is None:
            self._say(self._buffer[: at + len(tag)])
            self._buffer = self._buffer[at + len(tag) :]
            return True
        if not match.partial:
            self._say(self._buffer[:at].rstrip())
            return self._called(match, self._tags[tag])
        self._say_before(at)
        return False

    def _arguments(self) -> bool:
        end = self._object.end(self._buffer)
        call = self.calls[-1]
        text, self._buffer = self._buffer[:end], self._buffer[end:]
        self._argue(text)
        call.whole = self._object.closed
        if self._object.broken:
            self._state = self._broken
        elif call.whole:
            self._state = self._between
        return self._state != self._arguments

    def _between(self) -> bool:
        """Behind the arguments of a call."""
        if match := self._calling.patterns.next.match(self._buffer, 0):
            return not match.partial and self._called(match, self._closing)
        if match := self._calling.patterns.last(self._closing).match(self._buffer, partial=True):
            if match.partial:
                return False
            self._after_call, self._state = True, self._words
            self._buffer = self._buffer[match.end() :]
            return True
        if match := self._calling.patterns.rest.match(self._buffer):
            self._buffer = self._buffer[match.end() :]
        self._state = self._broken
        return True

    def _broken(self) -> bool:
        """Words within the tags of a call."""
        if not self._closing:
            self._state = self._words
            return True
        end = self._buffer.find(self._closing)
        if end < 0:
            end = len(self._buffer) - partial_stop(self._buffer, (self._closing,))
            self._say(self._buffer[:end])
            self._buffer = self._buffer[end:]
            return False
        self._say(self._buffer[:end])
        self._after_call, self._state = True, self._words
        self._buffer = self._buffer[end + len(self._closing) :]
        return True

    # What they do

    def _say_before(self, end: int) -> None:
        """Lets the buffer's text before `end` pass, but for the white space at its end."""
        text = self._buffer[:end].rstrip()
        self._say(text)
        self._buffer = self._buffer[len(text) :]

    def _say(self, text: str) -> None:
        if text:
            self.content += text
            self._parts.append(Part(text))
            self._after_call = False

    def _called(self, match: "regex.Match[str]", closing: str) -> bool:
        """A call begins, whose name has come and, where they are first, its arguments."""
        self.calls.append(CallRead(match["name"]))
        self._parts.append(Part("", len(self.calls) - 1, begins=True))
        self._closing, self._object, self._state = closing, _Object(), self._arguments
        self._buffer = self._buffer[match.end() :]
        if "arguments" in match.groupdict():
            self._argue(match["arguments"])
            self.calls[-1].whole, self._state = True, self._between
        return True

    def _argue(self, text: str) -> None:
        if text:
            self.calls[-1].arguments += text
            self._parts.append(Part(text, len(self.calls) - 1))

    def _whole_answer(self) -> bool:
        """Whether the answer has been nothing but calls; then they are taken."""
        match = not _is_deep(self._buffer, 0) and self._calling.patterns.alone.fullmatch(self._buffer)
        try:
            value = json.loads(self._buffer) if match else []
        except (ValueError, RecursionError):
            return False
        for item in value if isinstance(value, list) else [value]:
            self.calls.append(CallRead(item["name"], whole=True))
            self._parts.append(Part("", len(self.calls) - 1, begins=True))
            arguments = item["arguments"] if "arguments" in item else item["parameters"]
            self._argue(json.dumps(arguments, ensure_ascii=False))
        return bool(value)

    def _is_markup(self) -> bool:
        """Whether what is left at the end belongs to a call, of which there is no more to tell."""
        opened = self._held == "auto" and bool(self._form.opening) and self._form.opening in self._buffer
        return self._held == "forced" or opened or (self._after_call and not self._buffer.strip())


class _Object:
    """Where an object ends that comes in pieces."""

    def __init__(self) -> None:
        self._depth, self._quoted, self._escaped = 0, False, False
        self.closed = False
        self.broken = False
        """Whether something has come that is no JSON."""

    def end(self, text: str) -> int:
        """How much of the next piece belongs to it."""
        for i, character in enumerate(text):
            if self._quoted:
                self._quoted = self._escaped or character != '"'
                self._escaped = not self._escaped and character == "\\"
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    self.closed = True
                    return i + 1
            elif character not in _OUTSIDE_OF_STRINGS:
                self.broken = True
                return i
        return len(text)


def _is_deep(text: str, start: int) -> bool:
    """Whether the first object or list from `start` on has too many others in each other. To match such takes time that
    grows with the square of their number."""
    depth = 0
    for mark in _BRACKETS.finditer(text, start):
        depth += (mark[0] in ("{", "[")) - (mark[0] in ("}", "]"))
        if not 0 < depth <= DEEPEST:
            return depth > 0
    return False


class _Head:
    """The beginning of a call, up to its arguments; or up to its name where that comes after them."""

    def __init__(self, before: str, name: str, key: str, definitions: str) -> None:
        further = rf"(?:{_FURTHER}\s*+,\s*+)*+"
        self._first = _compiled(rf"{before}\{{\s*+{further}{name}\s*+,\s*+{further}{key}(?=\{{)", definitions)
        self._last = _compiled(
            rf"{before}\{{\s*+{further}{key}(?P<arguments>(?&object))\s*+,\s*+{further}{name}", definitions
        )

    def match(self, text: str, at: int) -> Any:
        """Where it stands at `at`; partial where its beginning does."""
        if (match := self._first.match(text, at, partial=True)) is None and not _is_deep(text, text.find("{", at)):
            match = self._last.match(text, at, partial=True)
        return match


class Patterns:
    """What calls are told by. Where a text ends too early, they match it as the beginning of what they stand for."""

    def __init__(self, names: Sequence[str], form: CallForm) -> None:
        self._definitions = f"(?(DEFINE)(?P<known>{'|'.join(map(regex.escape, names))})){_DEFINITIONS}"
        key, name = r'"(?:arguments|parameters)"\s*+:\s*+', r'"name"\s*+:\s*+"(?P<name>(?&known))"'
        rest = self._rest = rf"(?:\s*+,\s*+{_FURTHER})*+\s*+\}}"
        self.first = _Head(r"\s*+(?:\[\s*+)?", name, key, self._definitions)
        self.next = _Head(rf"{rest}\s*+(?:,\s*+)?", name, key, self._definitions)
        self.rest = self._compiled(rest)
        further, named = rf"(?:{_FURTHER}\s*+,\s*+)*+", r'"name"\s*+:\s*+"(?&known)"'
        pairs = rf"(?:{named}\s*+,\s*+{further}{key}(?&object)|{key}(?&object)\s*+,\s*+{further}{named})"
        call = rf"\{{\s*+{further}{pairs}{rest}"
        self.alone = self._compiled(rf"\s*+(?:{call}|\[\s*+{call}(?:\s*+,\s*+{call})*+\s*+\])\s*+")
        begin, middle = regex.escape(form.alone.begin), regex.escape(form.alone.middle)
        self.exact = self._compiled(rf"\s*+{begin}(?P<name>(?&known)){middle}(?=\{{)")

    def last(self, closing: str) -> Any:
        return self._compiled(rf"{self._rest}\s*+(?:\]\s*+)?{regex.escape(closing)}")

    def _compiled(self, pattern: str) -> Any:
        return _compiled(pattern, self._definitions)


def _compiled(pattern: str, definitions: str) -> Any:
    return regex.compile(pattern + definitions, regex.DOTALL)
