"""A chat template, filled in such that what people and programs wrote stays text, whatever control tokens it spells."""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from ..system.unicode import whole
from .encoder import CLOSE, OPEN, Encoder
from .templates import fill
from .turns import Call, Turn

Shape = Literal["function", "flat"]
"""How a template gets calls: as OpenAI's API has them, or with name and arguments alone."""

_MARK = f"{OPEN}{secrets.randbits(64)}:"
_PLACEHOLDER = re.compile(f'{re.escape(_MARK)}(\\d+)(\\\\*)"{CLOSE}')
"""In a placeholder stands a quotation mark, which tells by its backslashes how often the template wrote it as JSON."""
_SCHEMA_WORDS = re.compile(
    "type|function|name|description|parameters|properties|required|items|enum|const|default|title|format|pattern"
    "|anyOf|oneOf|allOf|not|additionalProperties|(min|max)(imum|Length|Items)"
    "|object|string|integer|number|boolean|array|null"
)
"""What templates look for in the description of a function. They are words of nobody."""


def filled(
    encoder: Encoder,
    turns: Sequence[Turn],
    variables: Mapping[str, Any],
    functions: Sequence[Mapping[str, Any]] = (),
    shape: Shape = "function",
) -> tuple[str, bool]:
    """The turns in the template, up to where the assistant goes on, with the template's control tokens sealed; and
    whether all is in it that must be: what the system and tools say, calls, and the names of functions.

    Templates may trim and split what they are given, so they get the very texts; but one that spells a control token
    becomes a placeholder, for the spelling would look like the template's own. With placeholders alone the template
    shows which control tokens are its own: where others come together out of texts and what stands around them, or of
    what it takes out of them, that outline is filled in instead. Errors: Refused; InvalidRequest.
    """

    def through_template(hidden: Callable[[str], bool]) -> tuple[str, Sheet]:
        sheet = Sheet(hidden)
        messages = [sheet.message(turn, shape) for turn in turns]
        tools = {"tools": [sheet.tool(function) for function in functions]} if functions else {}
        special = encoder.tokenizer.special_tokens_map
        return fill(encoder.chat_template, messages, {**variables, **special, **tools}), sheet

    outline, sheet = through_template(lambda _: True)
    text, _ = through_template(encoder.spells_control)
    if encoder.controls(text) - encoder.controls(outline):
        text = outline
    shown = {int(match[1]) for match in _PLACEHOLDER.finditer(outline)}
    return _PLACEHOLDER.sub(sheet.written, encoder.seal(text)), sheet.needed <= shown


class Sheet:
    """What a template gets, with placeholders for the texts that are `hidden` from it."""

    def __init__(self, hidden: Callable[[str], bool]) -> None:
        self._hidden = hidden
        self._texts: list[str] = []
        self.needed: set[int] = set()
        """The numbers of texts that a template must not leave out."""

    def message(self, turn: Turn, shape: Shape) -> dict[str, Any]:
        content = self._text(turn.content, turn.role in ("system", "tool"))
        message: dict[str, Any] = {"role": turn.role, "content": content}
        if turn.calls:
            message["tool_calls"] = [self._call(call, shape) for call in turn.calls]
        if turn.answered:
            message |= {"name": self._text(turn.answered.name), "tool_call_id": turn.answered.id}
        return message

    def tool(self, function: Mapping[str, Any]) -> dict[str, Any]:
        rest = {name: self._value(value, _SCHEMA_WORDS) for name, value in function.items() if name != "name"}
        return {"type": "function", "function": {"name": self._text(function["name"], True), **rest}}

    def written(self, placeholder: re.Match[str]) -> str:
        """What stands in its place: the text, as often written as JSON as the placeholder was."""
        text = self._texts[int(placeholder[1])]
        for _ in range(len(placeholder[2]).bit_length()):
            text = json.dumps(text, ensure_ascii=False)[1:-1]
        return text

    def _call(self, call: Call, shape: Shape) -> dict[str, Any]:
        function = {"name": self._text(call.name, True), "arguments": self._value(call.arguments, needed=True)}
        return function if shape == "flat" else {"id": call.id, "type": "function", "function": function}

    def _value(self, value: Any, words: re.Pattern[str] | None = None, needed: bool = False) -> Any:
        """JSON, all of whose texts but `words` may be hidden."""
        match value:
            case str():
                return value if words and words.fullmatch(value) else self._text(value, needed)
            case list():
                return [self._value(item, words, needed) for item in value]
            case dict():
                return {
                    self._value(key, words, needed): self._value(item, words, needed) for key, item in value.items()
                }
        return value

    def _text(self, text: str, needed: bool = False) -> str:
        before, core, after = _parted(whole(text))
        if not core:
            return before
        number = len(self._texts)
        self._texts.append(core)
        if needed:
            self.needed.add(number)
        return f'{before}{_MARK}{number}"{CLOSE}{after}' if self._hidden(text) else f"{before}{core}{after}"


def _parted(text: str) -> tuple[str, str, str]:
    """A text's white space at the beginning, what stands between, and the white space at the end."""
    core = text.strip()
    before, _, after = text.partition(core) if core else (text, "", "")
    return before, core, after
