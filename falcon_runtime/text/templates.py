"""Chat templates, filled in within bounds of time and memory: in a process of their own (`template_worker.py`), one for
all models. It is started with the first model, and again after a template has ended it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ..errors import InvalidRequest
from ..system.bounded import Bounded

SECONDS = 2
"""The most that a processor works on one text. Real templates take a thousandth."""
MEMORY_BYTES = 500_000_000
"""The most that the process allocates for it."""
LONGEST = 2_000_000
"""Characters; twice of what a conversation may have."""


class Reply(TypedDict, total=False):
    """One of the two."""

    text: str
    refusal: str


class Refused(Exception):
    """The template raises an error, in whose words."""


PROCESS = Bounded(f"{__package__}.template_worker", SECONDS, MEMORY_BYTES)


def start() -> None:
    """Starts the process, so that the first conversation need not wait for it."""
    PROCESS.start()


def fill(template: str, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Any]) -> str:
    """The messages in a template, up to where the assistant goes on, as transformers' `apply_chat_template` has it.
    `variables` are what else it reads, special tokens among them.

    Errors: Refused; InvalidRequest where it does not come to an end.
    """
    variables = {**variables, "messages": messages, "add_generation_prompt": True}
    told = PROCESS.ask(json.dumps([template, variables], default=str).encode())
    if told is None:
        raise InvalidRequest(
            f"The model's chat template does not come to an end within {SECONDS} seconds. Use generate, or a model "
            "with another template."
        )
    reply: Reply = json.loads(told)
    if "text" not in reply:
        raise Refused(reply.get("refusal"))
    return reply["text"]
