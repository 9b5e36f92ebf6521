"""The HTTP API, in the form of OpenAI's."""

from typing import TYPE_CHECKING, Any

from .clients import Clients
from .settings import ServerSettings

if TYPE_CHECKING:
    from .app import create_app

__all__ = ["Clients", "ServerSettings", "create_app"]


def __getattr__(name: str) -> Any:
    """`create_app` when it is asked for: every command reads settings, and FastAPI takes a second to import."""
    if name == "create_app":
        from .app import create_app

        return create_app
    raise AttributeError(name)
