"""The endpoints `/generate`, `/chat` and `/instruct`: what they take, over Gradio's API and as tools."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.generation import Generation
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.system.unicode import whole

from .streaming import Call

TEXT = {"type": "string"}
MESSAGE = {
    "type": "object",
    "properties": {"role": {"type": "string", "enum": ["system", "user", "assistant"]}, "content": TEXT},
    "required": ["role", "content"],
}
EXAMPLES: dict[str, Any] = {
    "prompt": "Once upon a time there was a falcon that",
    "message": "What is the capital of France?",
    "history": [
        {"role": "user", "content": "Good morning."},
        {"role": "assistant", "content": "Good morning. How can I help you?"},
    ],
    "system": "You answer in one sentence.",
    "instruction": "Write a sentence about falcons.",
    "context": "Falcons are birds of prey. The fastest of them is the peregrine.",
    "max_new_tokens": 100,
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.3,
    "stop": ["THE END"],
    "seed": 42,
    "logit_bias": {"42": -100},
    "logprobs": 0,
    "stop_on_repetition": True,
    "constraint": {"regex": "[A-Z][^.]*[.]"},
    "prompt_logprobs": 0,
}
"""A value of each parameter. Together they are a request that can be made."""


class Asked(NamedTuple):
    """A request."""

    call: Call
    sampling: dict[str, Any]


class Endpoint:
    """What one endpoint takes: the parameters of `function`, which makes a call of them, and the fields of
    `SamplingParams`, described as there. Null stands for a default.

    The two fields that everybody wants come right after the positional parameters, the others at the end.
    """

    def __init__(self, function: Callable[..., Call]) -> None:
        self._function = function
        self._own = list(inspect.signature(function).parameters.values())
        positional = [parameter.name for parameter in self._own if parameter.kind is not parameter.KEYWORD_ONLY]
        named = [parameter.name for parameter in self._own if parameter.name not in positional]
        fields = list(SamplingParams.model_fields)
        self.name = function.__name__
        self.parameters = [*positional, *fields[:2], *named, *fields[2:]]
        self.required = [parameter.name for parameter in self._own if parameter.default is parameter.empty]
        self._does, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\nArgs:\n")
        arguments, _, self._returns = rest.partition("\n\nReturns:\n")
        own = dict(line.strip().split(": ", 1) for line in arguments.splitlines())
        sampling = {
            name: f"{field.description} Null: the model's default."
            for name, field in SamplingParams.model_fields.items()
        }
        self.descriptions = own | sampling

    @property
    def signature(self) -> inspect.Signature:
        """With parameters that may be anything: what is wrong with them is for `asked` to say. It yields the text so
        far."""

        def parameter(name: str) -> inspect.Parameter:
            default = inspect.Parameter.empty if name in self.required else None
            return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=Any)

        return inspect.Signature([parameter(name) for name in self.parameters], return_annotation=Iterator[str])

    @property
    def doc(self) -> str:
        """The docstring of `function` with all parameters, in the form of Google's."""
        lines = [f"    {name}: {self.descriptions[name]}" for name in self.parameters]
        return "\n".join([self._does, "", "Args:", *lines, "", "Returns:", self._returns])

    def schema(self, name: str) -> dict[str, Any]:
        """A parameter as JSON schema, with an example."""
        own: dict[str, Any] = {"history": {"type": "array", "items": MESSAGE}}
        return (SAMPLING.get(name) or own.get(name, TEXT)) | {"examples": [EXAMPLES[name]]}

    def asked(self, values: Mapping[str, Any]) -> Asked:
        """What is asked for with these values; None for one is like leaving it out. Errors: InvalidRequest."""
        if unknown := [name for name in values if name not in self.parameters]:
            raise InvalidRequest(
                f"There is no parameter {unknown[0]:.100}; the parameters are {', '.join(self.parameters)}."
            )
        # JSON can spell halves of surrogate pairs, anywhere.
        values = json.loads(whole(json.dumps(values, ensure_ascii=False)))
        own = {parameter.name: values.get(parameter.name) for parameter in self._own}
        return Asked(self._function(**own), {name: values.get(name) for name in SamplingParams.model_fields})


def generate(prompt: str) -> Call:
    """Continues a text, from its last character on, with the language model that runs here.

    Args:
        prompt: The text to continue, word for word.

    Returns:
        The continuation, without the prompt.
    """
    check_text("prompt", prompt)
    return lambda runtime, params: runtime.generate(prompt, params)


def chat(message: str, history: list[dict[str, Any]] | None = None, system: str | None = None) -> Call:
    """Answers a message in a conversation, with the language model that runs here.

    Args:
        message: What to answer.
        history: The conversation before it: messages with "role" (user or assistant) and "content".
        system: Who the model should be and how it should answer. Empty: no system prompt. Null: the model's own.

    Returns:
        The answer.
    """
    check_text("message", message)
    check_text("system", system, optional=True)
    if not isinstance(history, list | None):
        raise InvalidRequest(f"history must be a list of messages, not {history!r:.200}.")
    messages = [*(history or []), {"role": "user", "content": message}]

    def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
        opening = system
        if opening is None and not has_system(messages):
            opening = runtime.defaults.system
        return runtime.chat([*([{"role": "system", "content": opening}] if opening else []), *messages], params)

    return call


def instruct(instruction: str, context: str | None = None, *, system: str | None = None) -> Call:
    """Carries one instruction out, with the language model that runs here.

    Args:
        instruction: What to do.
        context: The text to do it with, if there is one.
        system: Who the model should be and how it should answer. Empty: no system prompt. Null: the model's own.

    Returns:
        The answer.
    """
    check_text("instruction", instruction)
    check_text("context", context, optional=True)
    check_text("system", system, optional=True)
    return lambda runtime, params: runtime.instruct(instruction, context, system, params)


def check_text(name: str, value: Any, optional: bool = False) -> None:
    if value is None and not optional:
        raise InvalidRequest(f"{name} is missing. It must be text.")
    if not isinstance(value, str | None):
        raise InvalidRequest(f"{name} must be text, not {value!r:.200}.")


def has_system(messages: Sequence[Any]) -> bool:
    return any(isinstance(message, Mapping) and message.get("role") == "system" for message in messages)


def simple(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A JSON schema of pydantic's without references, without titles, without the null that is for a default, and
    without the true and false of which Gradio makes no type of Python."""
    if isinstance(schema, list):
        return [simple(item, definitions) for item in schema if item != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return simple(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    kept = {
        name: simple(value, definitions)
        for name, value in schema.items()
        if name not in ("title", "default") and not isinstance(value, bool)
    }
    match kept:
        case {"anyOf": [only], **rest}:
            return only | rest
    return kept


SAMPLING: dict[str, dict[str, Any]] = {
    name: simple(schema, SamplingParams.model_json_schema()["$defs"])
    for name, schema in SamplingParams.model_json_schema()["properties"].items()
}
"""The fields of `SamplingParams` as JSON schemas."""
ENDPOINTS = {endpoint.name: endpoint for endpoint in (Endpoint(generate), Endpoint(chat), Endpoint(instruct))}
