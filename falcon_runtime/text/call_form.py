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

    @property
    def alone(self) -> "CallForm":
        """The form of answers that are nothing but the JSON of a call, as some models write it without any tags."""
        return ALONE if self.opening else self

    def grammar(self, schemas: Mapping[str, Mapping[str, Any]], forced: bool, parallel: bool) -> str:
        """What an answer must be, in llguidance's form of Lark: calls where they are `forced`; else any text that, once
        it opens a call, is calls to its end. `schemas` are of the functions that may be called."""
        begun = [self._lark(name + self.middle) for name in schemas]
        more = f"({self._lark(self.between)} call){{0,{MOST_CALLS - 1}}}" if parallel and self.between else ""
        rules = [
            f"call: {' | '.join(f'{call} arguments_{i}' for i, call in enumerate(begun))}",
            f"rest: {more} {self._lark(self.end)}",
            *(
                f"arguments_{i}: %json {json.dumps({**schema, 'x-guidance': COMPACT})}"
                for i, schema in enumerate(schemas.values())
            ),
        ]
        if forced:
            return "\n".join([f"start: {self._lark(self.begin)} call rest", *rules])
        rules.append("TEXT: /(?s:.*)/")
        answers, alone = ["TEXT"], self.alone
        for i, name in enumerate(schemas):
            answers.append(f"alone_{i} arguments_{i} {'rest' if alone is self else self._lark(alone.end)}")
            rules.append(f"alone_{i}[lazy]: {self._lark(alone.begin + name + alone.middle)}")
        if self.opening:
            tag = self._parts(self.opening)[0].strip()
            body = f"{self._lark(self.begin[len(tag) :])} call rest"
            # A control token is no text, which ends before it; what other tags are spelled with is.
            answers.append(f"TEXT {self._lark(tag)} {body}" if tag in self.controls else f"tagged {body}")
            rules.append(f"tagged[lazy]: TEXT {self._lark(tag)}" if tag not in self.controls else "")
        return "\n".join([f"start: {' | '.join(answers)}", *rules])

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
ALONE = CallForm(begin='{"name": "', middle=HERMES.middle, between=None, end="}")
