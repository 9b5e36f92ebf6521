"""The endpoints in Gradio's API. Each yields the text so far."""

import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import gradio as gr
from gradio import routes
from gradio.components.api_component import Api
from gradio_client.snippet import generate_code_snippets
from gradio_client.utils import json_schema_to_python_type

from falcon_runtime.errors import FalconError
from falcon_runtime.fleet import Fleet
from falcon_runtime.server.failures import OWN_FAULT

from . import words
from .endpoints import ENDPOINTS, EXAMPLES, Endpoint
from .language import language_of
from .runs import CONCURRENT_RUNS
from .streaming import updates

logger = logging.getLogger(__name__)

WRONG_VALUES = "These are not the values that this event of the page takes. Reload the page."


class Blocks(gr.Blocks):
    """Blocks whose API endpoints get what was sent as it came, with None for each value that was not. What a visitor
    types beyond the scale of a slider is the scale's end, as the slider shows it a moment later. Page and events are in
    the language of the visitor who asks."""

    @property
    def config(self) -> Any:
        """The page as Gradio describes it to the browser that asks for it now."""
        code = words.language()
        if code not in self._configs:
            self._configs[code] = words.translate(self._configs[words.NOBODYS], code)
        return self._configs[code]

    @config.setter
    def config(self, laid_out: Any) -> None:
        self._configs = {words.NOBODYS: laid_out}

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

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> Any:
        """What the page's API view tells of the endpoints, and its MCP server of the tools."""
        info = super().get_api_info(all_endpoints, page)
        for name, told in info["named_endpoints"].items():
            endpoint = ENDPOINTS[name.removeprefix("/")]
            for parameter in told["parameters"]:
                parameter.update(described(endpoint, parameter["parameter_name"]))
        return info

    async def process_api(self, *arguments: Any, **more: Any) -> dict[str, Any]:
        # What a page asked for runs when it is its turn, and not in the context of the request.
        request = getattr(more.get("request"), "request", None)
        code = language_of(request.url.query, request.headers) if request else words.DEFAULT
        try:
            with words.speaking(code):
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


def described(endpoint: Endpoint, name: str) -> dict[str, Any]:
    """A parameter in the form of Gradio's description of the API."""
    schema = endpoint.schema(name)
    return {
        "label": name,
        "type": schema,
        "python_type": {"type": json_schema_to_python_type(schema), "description": endpoint.descriptions[name]},
        "example_input": EXAMPLES[name],
    }


def snippets(*endpoint: Any, **more: Any) -> dict[str, str]:
    """Gradio's examples of a call. In its own for the shell, bash reads the answer's id in a process that is gone when
    it is needed."""
    made: dict[str, str] = generate_code_snippets(*endpoint, **more)
    return made | {"bash": re.sub(r"\| (read EVENT_ID; .*)", r"| { \1; }", made["bash"])}


def build(fleet: Fleet) -> None:
    """Adds the endpoints to the `Blocks` that is being built."""
    setattr(routes, "generate_code_snippets", snippets)  # noqa: B010  (Gradio has no place for others.)
    for name, endpoint in ENDPOINTS.items():
        gr.events.api(function(fleet, endpoint), api_name=name, concurrency_limit=CONCURRENT_RUNS)


def function(fleet: Fleet, endpoint: Endpoint) -> Callable[..., Iterator[str]]:
    """The endpoint as Gradio calls it. Whatever goes wrong reaches the caller as a sentence."""

    def answer(*values: Any) -> Iterator[str]:
        try:
            call, sampling = endpoint.asked(dict(zip(endpoint.parameters, values, strict=True)))
            with closing(updates(fleet, call, sampling)) as source:
                for update in source:
                    yield update.text
        except FalconError as error:
            raise gr.Error(str(error), print_exception=False) from None

    answer.__name__, answer.__doc__ = endpoint.name, endpoint.doc
    setattr(answer, "__signature__", endpoint.signature)  # noqa: B010  (Functions may have one.)
    answer.__annotations__ = dict.fromkeys(endpoint.parameters, Any)
    return answer
