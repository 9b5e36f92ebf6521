"""Tools for models whose chat template knows none: our own prompt, in the style of Hermes.

The system's text says which functions there are, as JSON between `<tools>` and `</tools>`, and how to call one. Calls
are JSON between `<tool_call>` and `</tool_call>` in what the assistant says, and their results a turn of the user's,
each between `<tool_response>` and `</tool_response>`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .call_form import HERMES
from .turns import Call, Turn

INTRODUCTION = """You can call functions to help the user. These are the functions, between <tools> and </tools>:
<tools>
{functions}
</tools>

To call a function, answer with its name and its arguments as JSON between <tool_call> and </tool_call>:
<tool_call>
{{"name": "the function's name", "arguments": {{"the argument's name": "its value"}}}}
</tool_call>
Its result comes between <tool_response> and </tool_response>. Call a function only where that helps."""


def in_words(turns: Sequence[Turn], functions: Sequence[Mapping[str, Any]]) -> list[Turn]:
    """The conversation without calls, results and tools: all of them are text in it."""
    told: list[Turn] = []
    results = False
    for turn in turns:
        if turn.role == "tool":
            result = f"<tool_response>\n{turn.content}\n</tool_response>"
            if results:  # Of one message's calls.
                result = f"{told.pop().content}\n{result}"
            told.append(Turn("user", result))
        elif turn.calls:
            told.append(Turn("assistant", "\n".join(filter(None, [turn.content, _written(turn.calls)]))))
        else:
            told.append(turn)
        results = turn.role == "tool"
    if not functions:
        return told
    lines = [json.dumps({"type": "function", "function": function}, ensure_ascii=False) for function in functions]
    introduction = INTRODUCTION.format(functions="\n".join(lines))
    first = told[0]
    if first.role != "system":
        return [Turn("system", introduction), *told]
    return [Turn("system", "\n\n".join(filter(None, [first.content, introduction]))), *told[1:]]


def _written(calls: Sequence[Call]) -> str:
    assert HERMES.between
    pairs = [f"{call.name}{HERMES.middle}{_arguments(call)}" for call in calls]
    return f"{HERMES.begin}{HERMES.between.join(pairs)}{HERMES.end}"


def _arguments(call: Call) -> str:
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
