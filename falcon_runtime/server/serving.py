"""`falcon serve`: the HTTP API alone, without the page."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn

from ..errors import CannotListen
from ..fleet import Fleet
from ..models.library import default_models_dir, find_model
from ..status import Report
from ..system.leaving import leave_at_signals
from .app import create_app
from .settings import ServerSettings


class _Server(uvicorn.Server):
    """Leaves the signals to `leave_at_signals`: uvicorn would wait for every answer that is being written."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def serve(settings: ServerSettings, on_status: Report, note: Callable[[str], None]) -> None:
    """Answers until the program is told to end; the model is loaded meanwhile. `note` tells the owner where.

    Errors: CannotListen, UnknownModel.
    """
    find_model(settings.model, default_models_dir())
    leave_at_signals()
    with Fleet(settings.model, backend=settings.backend, limits=settings, draft=settings.draft) as fleet:
        config = uvicorn.Config(create_app(fleet, settings), settings.host, settings.port, log_level="critical")
        threading.Thread(target=fleet.load, args=(on_status,), name="falcon-load", daemon=True).start()
        note(f"The API is at http://{settings.host}:{settings.port}/v1, its description at /docs.")
        try:
            _Server(config).run()
        except SystemExit:
            raise CannotListen(settings.host, settings.port) from None
