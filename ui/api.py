"""The endpoints `/generate`, `/chat` and `/instruct`. Each yields the text so far."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import wraps
from typing import Any

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import FalconError, InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.runtime import Generation
from falcon_runtime.sampling import SamplingParams

from .runs import CONCURRENT_RUNS
from .streaming import Call, updates

Endpoint = Callable[..., Iterator[str]]


def build(fleet: Fleet) -> None:
    """Adds the endpoints to the Blocks that is being built."""

    @with_sampling
    def generate(prompt: str, **sampling: Any) -> Iterator[str]:
        """Continues a text. Yields the continuation so far, without the prompt.

        Args:
            prompt: The text to continue, word for word.
        """
        yield from texts(fleet, lambda runtime, params: runtime.generate(prompt, params), sampling)

    @with_sampling
    def chat(
        message: str, history: list[dict[str, Any]] | None = None, system: str = "", **sampling: Any
    ) -> Iterator[str]:
        """Answers a message in a conversation. Yields the answer so far.

        Args:
            message: What to answer.
            history: The conversation before it: messages with "role" (user or assistant) and "content".
            system: Who the model should be and how it should answer.
        """

        def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
            if not isinstance(history, list | None):
                raise InvalidRequest(f"history must be a list of messages, not {history!r:.200}.")
            opening = [{"role": "system", "content": system}] if system else []
            return runtime.chat([*opening, *(history or []), {"role": "user", "content": message}], params)

        yield from texts(fleet, call, sampling)

    @with_sampling
    def instruct(instruction: str, context: str = "", *, system: str = "", **sampling: Any) -> Iterator[str]:
        """Carries one instruction out. Yields the answer so far.

        Args:
            instruction: What to do.
            context: The text to do it with, if there is one.
            system: Who the model should be and how it should answer.
        """
        yield from texts(
            fleet, lambda runtime, params: runtime.instruct(instruction, context, system or None, params), sampling
        )

    for endpoint in (generate, chat, instruct):
        gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=CONCURRENT_RUNS)


def texts(fleet: Fleet, call: Call, sampling: Mapping[str, Any]) -> Iterator[str]:
    """The text so far, again and again; an error reaches the caller as its sentence."""
    try:
        with closing(updates(fleet, call, sampling)) as source:
            for update in source:
                yield update.text
    except FalconError as error:
        raise gr.Error(str(error), print_exception=False) from None


def with_sampling(function: Endpoint) -> Endpoint:
    """The endpoint with the fields of `SamplingParams` as parameters of their own, described as there.

    The two that everybody wants come right after the positional parameters, the others at the end.
    """
    fields = [
        inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=field.default, annotation=field.annotation
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
        yield from function(**signature.bind(*values).arguments)

    endpoint.__signature__ = signature
    endpoint.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    endpoint.__doc__ = inspect.cleandoc(function.__doc__ or "") + "".join(
        f"\n    {name}: {field.description}" for name, field in SamplingParams.model_fields.items()
    )
    return endpoint
