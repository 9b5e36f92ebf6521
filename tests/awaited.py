"""What is asynchronous, called by tests that are not."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

Result = TypeVar("Result")


def awaited(function: Callable[..., Awaitable[Result]], *arguments: object) -> Result:
    """What `function` returns, run in a thread of its own: where tests in a browser ran before, a loop of Playwright's
    runs in this one, and a thread has one loop at most."""
    with start_blocking_portal() as portal:
        return portal.call(function, *arguments)
