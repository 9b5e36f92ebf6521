"""Conversations through a model's own chat template. Nothing else in the code knows a template."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import InvalidRequest
from .call_form import CallForm
from .dialect import IN_WORDS, Dialect, dialect_of
from .encoder import Encoder
from .filling import filled
from .templates import Refused
from .tool_prompt import in_words
from .turns import Turn

Turns = list[Turn]


class Rendering(NamedTuple):
    """A conversation up to where the assistant goes on."""

    text: str
    """With the template's control tokens sealed."""
    form: CallForm
    """How calls are written in it."""


class _Telling(NamedTuple):
    """A way to tell the template of tools."""

    turns: Turns
    functions: Sequence[Mapping[str, Any]]
    """What it gets as tools."""
    dialect: Dialect


def render(
    encoder: Encoder, turns: Turns, variables: Mapping[str, Any], functions: Sequence[Mapping[str, Any]] = ()
) -> Rendering:
    """A conversation in the encoder's template, which gets `variables` beside it, and the `functions` that the model
    may call.

    Where the last turn is the assistant's, that is its beginning. A template that takes the conversation gets it as it
    is. One that wants the roles to alternate gets neighbours of the same role as one; one that has no system role, be
    it that it refuses it or that it leaves its text out, gets that text before the first question. One that knows no
    tools, or leaves a call or a result out, gets all of that in words. Errors: InvalidRequest with the template's own
    words if it refuses all of that.
    """
    if encoder.spells_control(json.dumps(variables, ensure_ascii=False)):
        raise InvalidRequest(
            "A variable for the chat template spells a control token. Only the template may write those."
        )
    refusal = "it leaves out what was said"
    forms: list[Callable[[Turns], Turns]] = [list, _merged, lambda turns: _merged(_without_system(turns))]
    for telling in _tellings(encoder, turns, functions):
        shape, calls = telling.dialect.shape or "function", telling.dialect.form
        for form in forms:
            *given, last = form(telling.turns)
            begun = last.content if last.role == "assistant" else ""
            try:
                text, complete = filled(
                    encoder, given if begun else [*given, last], variables, telling.functions, shape
                )
            except Refused as error:  # Templates do so on purpose.
                refusal = str(error)
                continue
            if complete:
                return Rendering(text + begun, calls)
    raise InvalidRequest(f"The model's chat template refuses this conversation: {refusal:.300}.")


def _tellings(encoder: Encoder, turns: Turns, functions: Sequence[Mapping[str, Any]]) -> Iterator[_Telling]:
    """The best one first."""
    if not functions and not any(turn.calls or turn.answered for turn in turns):
        yield _Telling(turns, (), IN_WORDS)
        return
    if (dialect := dialect_of(encoder)).shape:
        yield _Telling(turns, functions, dialect)
    yield _Telling(in_words(turns, functions), (), IN_WORDS)


def _merged(turns: Turns) -> Turns:
    """The turns with neighbours of the same role as one, but for calls and their results."""
    merged: Turns = []
    for turn in turns:
        apart = turn.calls or turn.answered or not merged or merged[-1].calls or merged[-1].role != turn.role
        if apart:
            merged.append(turn)
        else:
            merged[-1] = replace(turn, content=f"{merged[-1].content}\n\n{turn.content}")
    return merged


def _without_system(turns: Turns) -> Turns:
    """The turns with what the system says before the first question."""
    system = [turn.content for turn in turns if turn.role == "system" and turn.content.strip()]
    rest = [turn for turn in turns if turn.role != "system"]
    first = next(i for i, turn in enumerate(rest) if turn.role == "user")
    rest[first] = Turn("user", "\n\n".join([*system, rest[first].content]))
    return rest
