"""Conversations through a model's own chat template. Nothing else in the code knows a template."""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any

from ..errors import InvalidRequest
from .encoder import CLOSE, OPEN, Encoder
from .templates import Refused, fill

Turns = list[dict[str, str]]
"""Messages with nothing but a role and a text."""

PLACEHOLDER_MARK = f"{OPEN}{secrets.randbits(64)}:"
_PLACEHOLDER = re.compile(f"{re.escape(PLACEHOLDER_MARK)}(\\d+){CLOSE}")


def render(encoder: Encoder, turns: Turns, variables: Mapping[str, Any]) -> str:
    """A conversation up to where the assistant goes on, with the template's control tokens sealed. The template gets
    `variables` beside it.

    Where the last turn is the assistant's, that is its beginning. A template that takes the conversation gets it as it
    is. One that wants the roles to alternate gets neighbours of the same role as one; one that has no system role, be
    it that it refuses it or that it leaves its text out, gets that text before the first question. Errors:
    InvalidRequest with the template's own words if it refuses all of that.
    """
    if encoder.spells_control(json.dumps(variables, ensure_ascii=False)):
        raise InvalidRequest(
            "A variable for the chat template spells a control token. Only the template may write those."
        )
    forms: list[Callable[[Turns], Turns]] = [list, _merged, lambda turns: _merged(_without_system(turns))]
    for form in forms:
        try:
            text, complete = _fill(encoder, form(turns), variables)
        except Refused as error:  # Templates do so on purpose.
            refusal = error
            continue
        if complete:
            return text
    raise InvalidRequest(f"The model's chat template refuses this conversation: {refusal!s:.300}.") from refusal


def _fill(encoder: Encoder, turns: Turns, variables: Mapping[str, Any]) -> tuple[str, bool]:
    """The conversation in the template, and whether all system texts are in it.

    Templates may trim and split what they are given, so they get the very contents; but one that spells a control token
    becomes a placeholder, for the spelling would look like the template's own. With placeholders alone the template
    shows which control tokens are its own: where others come together out of contents and what stands around them, or
    of what it takes out of them, that outline is filled in instead.
    """
    *given, last = turns
    begun = last["content"] if last["role"] == "assistant" else ""
    given = given if begun else turns
    parts = [_parted(turn["content"]) for turn in given]

    def through_template(hidden: Iterable[bool]) -> str:
        contents = [
            f"{before}{PLACEHOLDER_MARK}{i}{CLOSE}{after}" if hide else f"{before}{core}{after}"
            for i, ((before, core, after), hide) in enumerate(zip(parts, hidden, strict=True))
        ]
        renamed = [{**turn, "content": content} for turn, content in zip(given, contents, strict=True)]
        return fill(encoder.chat_template, renamed, {**variables, **encoder.tokenizer.special_tokens_map})

    outline = through_template(core != "" for _, core, _ in parts)
    text = through_template(encoder.spells_control(turn["content"]) for turn in given)
    if encoder.controls(text) - encoder.controls(outline):
        text = outline
    shown = set(map(int, _PLACEHOLDER.findall(outline)))
    systems = {i for i, turn in enumerate(given) if turn["role"] == "system" and parts[i][1]}
    return _PLACEHOLDER.sub(lambda match: parts[int(match[1])][1], encoder.seal(text)) + begun, systems <= shown


def _parted(content: str) -> tuple[str, str, str]:
    """A content's white space at the beginning, what stands between, and the white space at the end."""
    core = content.strip()
    before, _, after = content.partition(core) if core else (content, "", "")
    return before, core, after


def _merged(turns: Turns) -> Turns:
    """The turns with neighbours of the same role as one."""
    return [
        {"role": role, "content": "\n\n".join(turn["content"] for turn in group)}
        for role, group in groupby(turns, key=lambda turn: turn["role"])
    ]


def _without_system(turns: Turns) -> Turns:
    """The turns with what the system says before the first question."""
    system = [turn["content"] for turn in turns if turn["role"] == "system" and turn["content"].strip()]
    rest = [turn for turn in turns if turn["role"] != "system"]
    first = next(i for i, turn in enumerate(rest) if turn["role"] == "user")
    rest[first] = {"role": "user", "content": "\n\n".join([*system, rest[first]["content"]])}
    return rest
