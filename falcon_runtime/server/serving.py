"""`falcon serve`: the HTTP API alone, without the page."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from socket import socket

import uvicorn

from ..errors import CannotListen
from ..fleet import Fleet
from ..models.library import default_models_dir, find_model
from ..status import Report
from ..system.leaving import leave_at_signals
from .app import create_app
from .settings import ServerSettings


class _Server(uvicorn.Server):
    """Leaves the signals to `leave_at_signals`: uvicorn would wait for every answer that is being written. Says when it
    listens."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()


def serve(settings: ServerSettings, on_status: Report, tell: Callable[[str], None]) -> None:
    """Answers until the program is told to end; the model is loaded meanwhile. `tell` gets the server's address as soon
    as it listens.

    Errors: CannotListen, UnknownModel.
    """
    find_model(settings.model, default_models_dir())
    leave_at_signals()
    with Fleet(
        settings.model,
        backend=settings.backend,
        threads=settings.threads,
        limits=settings,
        draft=settings.draft,
        chat_template=settings.chat_template,
    ) as fleet:
        application = create_app(fleet, settings)
        # As Gradio's server has it for the page: what else is installed must not change how this one works.
        config = uvicorn.Config(
            application, settings.host, settings.port, loop="asyncio", http="h11", log_level="critical"
        )
        threading.Thread(target=fleet.load, args=(on_status,), name="falcon-load", daemon=True).start()
        try:
            _Server(config, lambda: tell(settings.url)).run()
        except SystemExit:
            raise CannotListen(settings.host, settings.port) from None
