"""The functions that a model may call."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ..constraint import Constraint
from ..errors import InvalidRequest
from ..sampling import SamplingParams
from .call_form import CallForm
from .calls import NO_CALLS, Calling
from .turns import as_json, check_name

MOST_TOOLS = 128
MAX_CHARACTERS = 80_000
"""Of all schemas, so that the grammar that is made of them is none that a constraint refuses."""
ANYTHING: dict[str, Any] = {"type": "object", "properties": {}}
"""Parameters of a function that has none."""
CLOSED = {"type", "properties", "required", "title", "description", "default", "examples"}
CLOSED |= {"$schema", "$id", "$comment", "$defs", "definitions"}
"""What a schema may have so that `properties` are all that its author has thought of."""


class Tools:
    """The functions that a model may call, and whether it must.

    `tools` are as in OpenAI's API: `[{"type": "function", "function": {"name": …, "description": …, "parameters": a
    JSON schema}}]`. So is `choice`: "auto", "required", "none", one function, or some that are allowed. `parallel` is
    whether an answer may have several calls. Arguments satisfy their schema; where that lists `properties` and says
    nothing of others, there are no others. Errors: InvalidRequest, whose words begin with the field.
    """

    def __init__(
        self, tools: Sequence[Mapping[str, Any]], choice: str | Mapping[str, Any] = "auto", parallel: bool = True
    ) -> None:
        if len(tools) > MOST_TOOLS:
            raise InvalidRequest(f"tools: there are {len(tools)}; at most {MOST_TOOLS} are allowed.")
        self.functions: list[dict[str, Any]] = []
        """Name, description and parameters of each, as they are shown to the model."""
        self.schemas: dict[str, dict[str, Any]] = {}
        """What the arguments of those that may be called must be, by name."""
        self.parallel = parallel
        for number, tool in enumerate(tools):
            self._add(f"tools.{number}", tool)
        if sum(len(json.dumps(schema)) for schema in self.schemas.values()) > MAX_CHARACTERS:
            raise InvalidRequest(
                f"tools: their schemas are too long; at most {MAX_CHARACTERS:,} characters are allowed."
            )
        names, self.forced = _chosen(choice, list(self.schemas))
        self.named = isinstance(choice, Mapping) and choice.get("type") == "function"
        """Whether one function is asked for by its name."""
        self.schemas = {name: self.schemas[name] for name in names}

    @property
    def shown(self) -> Sequence[Mapping[str, Any]]:
        """The functions that the model is told of: none where none may be called."""
        return self.functions if self.schemas else ()

    def check(self, params: SamplingParams) -> None:
        """Errors: InvalidRequest where an answer of these parameters can have no calls."""
        if self.schemas and params.constraint:
            raise InvalidRequest(
                "tools: calls have a form of their own, so they do not go with a constraint: response_format, regex, "
                "grammar or choice."
            )

    def held(self, params: SamplingParams, form: CallForm) -> tuple[SamplingParams, Calling]:
        """The parameters for an answer whose calls have the form `form`, and which calls it may have. Errors:
        InvalidRequest."""
        self.check(params)
        if not self.schemas:
            return params, NO_CALLS
        grammar = form.grammar(self.schemas, self.forced, self.parallel)
        try:
            held = SamplingParams(**params.model_dump() | {"constraint": {"grammar": grammar}})
        except InvalidRequest as error:
            raise InvalidRequest(f"tools: together, they make a grammar that cannot be used ({error})") from None
        calling = Calling(tuple(self.schemas), form, "forced" if self.forced else "auto")
        _ = calling.patterns  # They are made here, where nobody else waits, not in a server's loop.
        return held, calling

    def _add(self, place: str, tool: Any) -> None:
        tool = as_json(place, tool)
        if not isinstance(tool, dict) or tool.get("type") != "function":
            kind = tool.get("type") if isinstance(tool, dict) else tool
            raise InvalidRequest(f"{place}.type: only tools of type 'function' are supported, not {kind!r:.100}.")
        function: Any = tool
        if "name" not in tool:  # It is beside the type in the form of `/v1/responses`.
            place, function = f"{place}.function", tool.get("function")
        if not isinstance(function, dict):
            raise InvalidRequest(f"{place}: it must say the function's name, not {function!r:.100}.")
        name = check_name(f"{place}.name", function.get("name"))
        if name in self.schemas:
            raise InvalidRequest(f"{place}.name: there are two functions {name!r}.")
        description, parameters = function.get("description") or "", function.get("parameters")
        if not isinstance(description, str):
            raise InvalidRequest(f"{place}.description: it must be text, not {description!r:.100}.")
        parameters = ANYTHING if parameters is None else parameters
        self.schemas[name] = _schema(f"{place}.parameters", parameters)
        self.functions.append({"name": name, "description": description, "parameters": parameters})


def _schema(place: str, parameters: Any) -> dict[str, Any]:
    """What arguments must be. Errors: InvalidRequest where that cannot be honoured."""
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise InvalidRequest(f"{place}: they must be the JSON schema of an object, not {parameters!r:.100}.")
    schema: dict[str, Any] = {"type": "object"} | parameters
    if "properties" in schema and schema.keys() <= CLOSED:
        schema["additionalProperties"] = False
    try:
        Constraint.model_validate({"json_schema": schema})
    except ValidationError as error:
        words = error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("json_schema: ")
        raise InvalidRequest(f"{place}: {words}") from None
    return schema


def _chosen(choice: Any, names: list[str]) -> tuple[list[str], bool]:
    """The functions that may be called, and whether one must be."""
    match choice:
        case "none":
            return [], False
        case "auto":
            return names, False
        case "required":
            chosen, forced, place = names, True, "tool_choice"
        case {"type": "function", "function": {"name": name}}:
            chosen, forced, place = [name], True, "tool_choice.function.name"
        case {"type": "function", "name": name}:
            chosen, forced, place = [name], True, "tool_choice.name"
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*allowed]}} | {
            "type": "allowed_tools",
            "mode": "auto" | "required" as mode,
            "tools": [*allowed],
        }:
            place = "tool_choice.tools" if "tools" in choice else "tool_choice.allowed_tools.tools"
            chosen, forced = [_named(place, tool) for tool in allowed], mode == "required"
        case _:
            raise InvalidRequest(
                "tool_choice: it must be none, auto, required, a function's name as in {'type': 'function', "
                f"'function': {{'name': …}}}}, or allowed_tools, not {choice!r:.200}."
            )
    if not names:
        raise InvalidRequest("tool_choice: there are no tools to choose from. Give them in `tools`.")
    for name in chosen:
        if name not in names:
            raise InvalidRequest(f"{place}: there is no function {name!r:.100}; there are {', '.join(names):.500}.")
    if not chosen:
        raise InvalidRequest(f"{place}: it allows no function. Say 'none' for that.")
    return [name for name in names if name in chosen], forced


def _named(place: str, tool: Any) -> Any:
    match tool:
        case {"type": "function", "function": {"name": name}} | {"type": "function", "name": name}:
            return name
    raise InvalidRequest(f"{place}: it must name functions, not {tool!r:.100}.")
