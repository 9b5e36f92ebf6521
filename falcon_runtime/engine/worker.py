"""The engine's process: `python -m falcon_runtime.engine.worker SOCKET FOLDER THREADS`, started by `client.Engine`.

A forward holds the GIL, and a wrong shape or a lack of memory ends the whole process; here neither touches the page.
Messages go over the inherited socket: `Submit` and `Cancel` come in; `Ready` or an error, then `Step`s go out.
"""

import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from ..errors import FalconError
from ..manifest import Manifest, read_manifest
from .messages import Cancel, Ready, Submit
from .program import Program
from .scheduler import Request, Scheduler

LARGE_MODEL = 1_000_000_000
"""Parameters from which a slice of 128 tokens takes seconds on two cores, and one of 32 is as fast per token."""


def serve(connection: Connection, scheduler: Scheduler) -> None:
    """Works until the other side closes the connection."""
    while True:
        while connection.poll(0 if scheduler.busy else None):
            match connection.recv():
                case Submit(request, tokens, params):
                    connection.send(scheduler.submit(Request(request, list(tokens), params)))
                case Cancel(request):
                    if step := scheduler.cancel(request):
                        connection.send(step)
        for step in scheduler.step():
            connection.send(step)


def slice_tokens(manifest: Manifest) -> int:
    return 32 if manifest.parameters >= LARGE_MODEL else 128


def main() -> None:
    socket, folder, threads = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it closes the connection.
    connection = Connection(int(socket))
    try:
        try:
            manifest = read_manifest(Path(folder))
            program = Program(Path(folder), manifest, int(threads) or None)
        except FalconError as error:
            connection.send(error)
            return
        connection.send(Ready())
        serve(connection, Scheduler(program, manifest.end_tokens, slice_tokens(manifest)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # The parent has closed the engine or is gone.


if __name__ == "__main__":
    main()
