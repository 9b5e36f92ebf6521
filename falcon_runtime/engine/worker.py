"""The engine's process: `python -m falcon_runtime.engine.worker SOCKET FOLDER THREADS`, started by `client.Engine`.

A forward holds the GIL, and a wrong shape or a lack of memory ends the whole process; here neither touches the page.
Messages go over the inherited socket: `Submit` and `Cancel` come in; `Compiling`, perhaps, `Ready` or an error, then
tuples of `Step`s, out.
"""

import gc
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from ..errors import FalconError
from ..models.manifest import read_manifest
from ..system.child import connect
from .messages import Cancel, Compiling, Ready, Submit
from .program import ForwardProgram, Program
from .request import Request
from .scheduler import Pace, Scheduler
from .speculation import interpolate

ALONE, ALONE_S = (128, 64, 32), 0.7
"""Tokens of a prompt that are prefilled at a time while no answer is written: as many as take at most so many seconds,
which is what somebody waits who stops it; and no fewer than the last, which would be slower."""
BESIDE, BESIDE_S = (32, 16, 8), 0.05
"""The same while one is written, and stands still for so long."""


def serve(connection: Connection, scheduler: Scheduler) -> None:
    """Works until the other side closes the connection."""
    while True:
        while connection.poll(0 if scheduler.busy else None):
            match connection.recv():
                case Submit(request, tokens, params):
                    connection.send((scheduler.submit(Request(request, tokens, params)),))
                case Cancel(request):
                    if step := scheduler.cancel(request):
                        connection.send((step,))
        # All of a forward in one message: each one wakes the parent, which takes a core from the next forward.
        connection.send(tuple(scheduler.step()))


def measure_costs(program: ForwardProgram) -> list[float]:
    """Seconds that a forward of 1, 2, 3, ... rows takes here and now, a quarter of the context being filled.

    What rows cost depends on the model, the processor, its kernels and the context: two may take less than one, eight
    half as much again or three times as much.
    """
    idle, start = program.slots - 1, program.context // 4
    seconds = {}
    for count in (1, 2, 4, 8, 16, 32):
        if count > program.max_tokens or start + count > program.context:
            break
        tokens, starts = [[0] * count] + [[]] * idle, [start] + [0] * idle
        times = []
        for _ in range(2):
            began = time.perf_counter()
            program.forward(tokens, starts, range(min(count, program.max_rows)))
            times.append(time.perf_counter() - began)
        seconds[count] = min(times)  # The first one also prepares the kernels for so many rows.
    return interpolate(seconds)


def cost_of(rows: int, costs: list[float]) -> float:
    """Seconds that a forward of so many rows takes, by `costs`, which may go less far."""
    return costs[min(rows, len(costs)) - 1] * max(1, rows / len(costs))


def pace_of(costs: list[float]) -> Pace:
    """How to prefill prompts with a model whose forwards of 1, 2, 3, ... rows take `costs` seconds."""

    def most(counts: tuple[int, ...], seconds: float) -> int:
        times = {count: cost_of(count, costs) for count in counts}
        return next((count for count in counts if times[count] <= seconds), counts[-1])

    return Pace(most(ALONE, ALONE_S), most(BESIDE, BESIDE_S))


def main() -> None:
    socket, folder, threads = sys.argv[1:]
    connection = connect(socket)
    try:
        try:
            manifest = read_manifest(Path(folder))
            program = Program(Path(folder), manifest, int(threads) or None, lambda: connection.send(Compiling()))
            costs = measure_costs(program)
        except FalconError as error:
            connection.send(error)
            return
        gc.freeze()  # What the imports made stays, and need not be looked through again and again.
        pace = pace_of(costs)
        connection.send(Ready(cost_of(pace.alone, costs)))
        serve(connection, Scheduler(program, manifest.end_tokens, pace, costs))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # The parent has closed the engine or is gone.


if __name__ == "__main__":
    main()
