"""Chat templates, filled in within bounds of time and memory: in a process of their own (`template_worker.py`), one for
all models. It is started with the first model, and again after a template has ended it."""

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypedDict

from ..errors import InvalidRequest
from ..system.child import Child

SECONDS = 2
"""The most that a processor works on one text. Real templates take a thousandth."""
MEMORY_BYTES = 500_000_000
"""The most that the process allocates for it."""
LONGEST = 2_000_000
"""Characters; twice of what a conversation may have."""
_PATIENCE_S = 60
"""For the process to start, or to get that processor."""


class Reply(TypedDict, total=False):
    """One of the two."""

    text: str
    refusal: str


class Refused(Exception):
    """The template raises an error, in whose words."""


class _Renderer:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: Child | None = None

    def start(self) -> None:
        with self._lock:
            self._child = self._child or _start()

    def fill(self, template: str, variables: Mapping[str, Any]) -> str:
        request = json.dumps([template, variables], default=str).encode()
        with self._lock:
            for _ in range(2):  # One that waits for work may have been ended, as by a system that is short of memory.
                child = self._child = self._child or _start()
                try:
                    child.connection.send_bytes(request)
                    break
                except OSError:
                    self._end()
            reply = self._reply()
        if "text" not in reply:
            raise Refused(reply.get("refusal"))
        return reply["text"]

    def _reply(self) -> Reply:
        try:
            assert self._child
            if self._child.connection.poll(_PATIENCE_S):
                reply: Reply = json.loads(self._child.connection.recv_bytes())
                return reply
        except (AssertionError, EOFError, OSError):
            pass
        self._end()
        raise InvalidRequest(
            f"The model's chat template does not come to an end within {SECONDS} seconds. Use generate, or a model "
            "with another template."
        )

    def _end(self) -> None:
        if self._child:
            self._child.kill()
            self._child.connection.close()
        self._child = None


def _start() -> Child:
    child = Child(f"{__package__}.template_worker", str(SECONDS), str(MEMORY_BYTES))
    with suppress(EOFError, OSError):  # Then sending will fail too.
        if child.connection.poll(_PATIENCE_S):
            child.connection.recv_bytes()
    return child


_renderer = _Renderer()


def start() -> None:
    """Starts the process, so that the first conversation need not wait for it."""
    _renderer.start()


def fill(template: str, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Any]) -> str:
    """The messages in a template, up to where the assistant goes on, as transformers' `apply_chat_template` has it.
    `variables` are what else it reads, special tokens among them.

    Errors: Refused; InvalidRequest where it does not come to an end.
    """
    return _renderer.fill(template, {**variables, "messages": messages, "add_generation_prompt": True})
