"""How calls of functions are written, and the grammar that answers with calls are held to."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..constraint import COMPACT
from .encoder import any_of

MOST_CALLS = 16
"""In one answer: small models do not come to an end by themselves."""


@dataclass(frozen=True)
class CallForm:
    """What stands around the names and arguments of calls: begin NAME middle ARGUMENTS (between NAME middle ARGUMENTS)*
    end."""

    begin: str
    middle: str
    between: str | None
    """None where an answer has one call only."""
    end: str
    controls: Mapping[str, int] = field(default_factory=dict)
    """Control tokens in these texts, by their spelling. They are themselves in an answer, not letters."""

    @property
    def opening(self) -> str:
        """What calls begin with before their JSON, a tag as a rule; empty where an answer is nothing but JSON."""
        found = ""
        for part in self._parts(self.begin):
            text = part if part in self.controls else re.split(r"[{\[]", part, maxsplit=1)[0]
            found += text
            if text != part:
                break
        return found.strip()

    @property
    def closing(self) -> str:
        """What calls end with after their JSON."""
        found = ""
        for part in reversed(self._parts(self.end)):
            text = part if part in self.controls else re.split(r"[}\]]", part)[-1]
            found = text + found
            if text != part:
                break
        return found.strip()

    def grammar(self, schemas: Mapping[str, Mapping[str, Any]], forced: bool, parallel: bool) -> str:
        """What an answer must be, in llguidance's form of Lark: calls alone where they are `forced`; else any text
        that, once it opens a call, is calls to its end. `schemas` are of the functions that may be called."""
        named = {f"arguments_{i}": name for i, name in enumerate(schemas)}
        more = (
            f"({self._lark(self.between)} call){{0,{MOST_CALLS - 1}}}" if parallel and self.between is not None else ""
        )
        rest = f"{more} {self._lark(self.end)}"
        lines = [f"call: {' | '.join(f'{self._lark(name + self.middle)} {rule}' for rule, name in named.items())}"]
        lines += [
            f"{rule}: %json {json.dumps({**schemas[name], 'x-guidance': COMPACT})}" for rule, name in named.items()
        ]
        if forced:
            return "\n".join([f"start: {self._lark(self.begin)} call {rest}", *lines])
        lines += ["TEXT: /(?s:.*)/"]
        if not (opening := self.opening):
            # Whole answers that begin with the name of a function.
            heads = {f"head_{i}": self.begin + name + self.middle for i, name in enumerate(schemas)}
            calls = " | ".join(f"{head} {rule} {rest}" for head, rule in zip(heads, named, strict=True))
            return "\n".join(
                [
                    f"start: TEXT | {calls}",
                    *(f"{rule}[lazy]: {self._lark(head)}" for rule, head in heads.items()),
                    *lines,
                ]
            )
        trigger = self._parts(opening)[0].strip()
        body = f"{self._lark(self.begin[len(trigger) :])} call {rest}"
        if trigger in self.controls:
            return "\n".join([f"start: TEXT | TEXT {self._lark(trigger)} {body}", *lines])
        return "\n".join([f"start: TEXT | head {body}", f"head[lazy]: TEXT {self._lark(trigger)}", *lines])

    def _lark(self, text: str | None) -> str:
        return " ".join(
            f"<[{self.controls[part]}]>" if part in self.controls else json.dumps(part, ensure_ascii=False)
            for part in self._parts(text or "")
        )

    def _parts(self, text: str) -> list[str]:
        """The text, parted into control tokens and what stands between them."""
        return [part for part in re.split(f"({any_of(self.controls).pattern})", text) if part]


HERMES = CallForm(
    begin='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    between='}\n</tool_call>\n<tool_call>\n{"name": "',
    end="}\n</tool_call>",
)
"""The form of Hermes and Qwen, and ours where a chat template knows none."""
