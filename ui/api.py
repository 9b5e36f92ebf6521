"""The endpoints `/generate`, `/chat` and `/instruct`. Each yields the text so far."""

import inspect
import json
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import wraps
from typing import Any, cast

import gradio as gr
from gradio.components.api_component import Api

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import FalconError, InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.system.unicode import whole

from .runs import CONCURRENT_RUNS
from .streaming import Call, updates

logger = logging.getLogger(__name__)

PLAIN: dict[str, Any] = {"constraint": dict[str, Any]}
"""Parameters that Gradio knows no type for, as what they are in JSON."""
Endpoint = Callable[..., Iterator[str]]
OWN_FAULT = "The server could not handle this request because of an error of its own, which is in its log."
WRONG_VALUES = "These are not the values that this event of the page takes. Reload the page."


class Blocks(gr.Blocks):
    """Blocks whose API endpoints get what was sent as it came, with None for each value that was not. What a visitor
    types beyond the scale of a slider is the scale's end, as the slider shows it a moment later."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *options: Any, **more: Any) -> list[Any]:
        parameters = block_fn.inputs
        if not any(isinstance(parameter, Api) for parameter in parameters):
            inputs = [on_scale(block, value) for block, value in zip(parameters, inputs, strict=False)]
            try:
                values: list[Any] = await super().preprocess_data(block_fn, inputs, *options, **more)
            except Exception:  # Its words may hold what a visitor has written, and would go to the log.
                raise gr.Error(WRONG_VALUES, print_exception=False) from None
            return values
        if len(inputs) > len(parameters):
            raise gr.Error(
                f"/{block_fn.api_name} takes at most {len(parameters)} values, not {len(inputs)}.",
                print_exception=False,
            )
        return [*inputs, *[None] * (len(parameters) - len(inputs))]

    async def process_api(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await super().process_api(*arguments, **more)
            return answer
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:
            raise own_fault(error) from None


def own_fault(error: Exception) -> gr.Error:
    """An error that nobody foresaw, for the visitor. The log has where it arose, without its words, in which there may
    be what the visitor has written."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error("a request failed with %s:\n%s", type(error).__name__, where)
    return gr.Error(OWN_FAULT, print_exception=False)


def on_scale(block: Any, value: Any) -> Any:
    if isinstance(block, gr.Slider) and isinstance(value, int | float):
        return min(max(value, block.minimum), block.maximum)
    return value


def build(fleet: Fleet) -> None:
    """Adds the endpoints to the `Blocks` that is being built."""

    @with_sampling
    def generate(prompt: str, **sampling: Any) -> Iterator[str]:
        """Continues a text. Yields the continuation so far, without the prompt.

        Args:
            prompt: The text to continue, word for word.
        """
        check_text("prompt", prompt)
        yield from texts(fleet, lambda runtime, params: runtime.generate(prompt, params), sampling)

    @with_sampling
    def chat(
        message: str, history: list[dict[str, Any]] | None = None, system: str | None = None, **sampling: Any
    ) -> Iterator[str]:
        """Answers a message in a conversation. Yields the answer so far.

        Args:
            message: What to answer.
            history: The conversation before it: messages with "role" (user or assistant) and "content".
            system: Who the model should be and how it should answer. Empty: no system prompt. Null: the model's own.
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

        yield from texts(fleet, call, sampling)

    @with_sampling
    def instruct(
        instruction: str, context: str | None = None, *, system: str | None = None, **sampling: Any
    ) -> Iterator[str]:
        """Carries one instruction out. Yields the answer so far.

        Args:
            instruction: What to do.
            context: The text to do it with, if there is one.
            system: Who the model should be and how it should answer. Empty: no system prompt. Null: the model's own.
        """
        check_text("instruction", instruction)
        check_text("context", context, optional=True)
        check_text("system", system, optional=True)
        yield from texts(
            fleet, lambda runtime, params: runtime.instruct(instruction, context, system, params), sampling
        )

    for endpoint in (generate, chat, instruct):
        gr.events.api(endpoint, api_name=endpoint.__name__, concurrency_limit=CONCURRENT_RUNS)


def texts(fleet: Fleet, call: Call, sampling: Mapping[str, Any]) -> Iterator[str]:
    """The text so far, again and again."""
    with closing(updates(fleet, call, sampling)) as source:
        for update in source:
            yield update.text


def check_text(name: str, value: Any, optional: bool = False) -> None:
    if value is None and not optional:
        raise InvalidRequest(f"{name} is missing. It must be text.")
    if not isinstance(value, str | None):
        raise InvalidRequest(f"{name} must be text, not {value!r:.200}.")


def has_system(messages: Sequence[Any]) -> bool:
    return any(isinstance(message, Mapping) and message.get("role") == "system" for message in messages)


def with_sampling(function: Endpoint) -> Endpoint:
    """The endpoint with the fields of `SamplingParams` as parameters of their own, described as there; None is the
    model's default. Whatever goes wrong reaches the caller as a sentence.

    The two that everybody wants come right after the positional parameters, the others at the end.
    """
    fields = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=None,
            annotation=PLAIN.get(name, cast(Any, field.annotation)) | None,
        )
        for name, field in SamplingParams.model_fields.items()
    ]
    own = list(inspect.signature(function).parameters.values())[:-1]
    positional = [parameter for parameter in own if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    named = [
        parameter.replace(kind=parameter.POSITIONAL_OR_KEYWORD) for parameter in own if parameter not in positional
    ]
    # A parameter without a default may not follow one that has one, which is why `named` all have defaults.
    signature = inspect.Signature([*positional, *fields[:2], *named, *fields[2:]], return_annotation=Iterator[str])

    @wraps(function)
    def endpoint(*values: Any) -> Iterator[str]:
        try:
            # JSON can spell halves of surrogate pairs, anywhere.
            values = json.loads(whole(json.dumps(values, ensure_ascii=False)))
            yield from function(**signature.bind(*values).arguments)
        except FalconError as error:
            raise gr.Error(str(error), print_exception=False) from None

    setattr(endpoint, "__signature__", signature)  # noqa: B010  (Functions may have one.)
    endpoint.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    endpoint.__doc__ = inspect.cleandoc(function.__doc__ or "") + "".join(
        f"\n    {name}: {field.description} Null: the model's default."
        for name, field in SamplingParams.model_fields.items()
    )
    return endpoint
