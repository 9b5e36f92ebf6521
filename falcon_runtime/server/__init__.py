"""The HTTP API, in the form of OpenAI's."""

from .app import create_app
from .clients import Clients
from .settings import ServerSettings

__all__ = ["Clients", "ServerSettings", "create_app"]
