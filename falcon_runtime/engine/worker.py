"""The engine's process: `python -m falcon_runtime.engine.worker SOCKET FOLDER THREADS DRAFT`, started by
`client.Engine`. DRAFT is the folder of the draft model, or empty.

A forward takes all processors, and a wrong shape or a lack of memory ends the whole process; here neither touches the
page.
Messages go over the inherited socket: `Submit` and `Cancel` come in; `Compiling`, perhaps, `Ready` or an error, then
tuples of `Step`s, out.
"""

import gc
import math
import sys
import time
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

from ..errors import FalconError
from ..models.manifest import PROGRAM, read_manifest
from ..models.reading import AnyManifest, read_model, tokenizer_folder
from ..models.recipes import FP32
from ..models.stock.manifest import StockManifest
from ..system.child import connect
from ..system.machine import available_memory
from .constraints import Grammars
from .draft_model import DraftModel
from .huge_pages import HugePages
from .kernels import Announce
from .kernels.compiled import compile_beside
from .messages import Cancel, Compiling, Ready, Submit
from .program import ForwardProgram, Program
from .request import Request
from .sampler import SAMPLING, passes
from .scheduler import Pace, Scheduler
from .speculation import cost, interpolate
from .stock_program import StockProgram

ALONE, ALONE_S = (128, 64, 32), 0.7
"""Tokens of a prompt that are prefilled at a time while no answer is written: as many as take at most so many seconds,
which is what somebody waits who stops it; and no fewer than the last, which would be slower."""
BESIDE, BESIDE_S = (32, 16, 8), 0.05
"""The same while one is written, and stands still for so long."""
MOVE_S = 0.5
"""How long a start may be delayed by moving weights into huge pages; what is left moves while nobody asks."""

LONG_S, ONCE_S = 0.5, 0.25
"""More rows than take so long are not measured, since what they take follows from fewer, and it would delay the start;
and what takes so long is measured once, since beside it little counts what else the machine does for a moment."""


def serve(connection: Connection, scheduler: Scheduler, weights: HugePages) -> None:
    """Works until the other side closes the connection."""
    while True:
        while connection.poll(0 if scheduler.busy or weights.left else None):
            match connection.recv():
                case Submit(request, tokens, params):
                    connection.send((scheduler.submit(Request(request, tokens, params)),))
                case Cancel(request):
                    if step := scheduler.cancel(request):
                        connection.send((step,))
        if scheduler.busy:
            # All of a forward in one message: each one wakes the parent, which takes a core from the next forward.
            connection.send(tuple(scheduler.step()))
        else:
            weights.move()


def measure_costs(program: ForwardProgram) -> list[float]:
    """Seconds that a forward of 1, 2, 3, ... rows takes here and now, a quarter of the context being filled.

    What rows cost depends on the model, the processor, its kernels and the context: eight may take half as long again
    as one, or three times as long.
    """
    idle, start = program.slots - 1, program.context // 4
    most = min(program.max_tokens, program.context - start)
    seconds: dict[int, float] = {}
    # All of them once, and again: the first forward of so many rows also prepares the kernels for them, and what else
    # the machine does for a moment should not make one of them look slow beside the others.
    for count in [count for count in (1, 2, 4, 8, 16, 32) if count <= most] * 2:
        if seconds.get(count // 2, 0) > LONG_S or seconds.get(count, 0) > ONCE_S:
            continue
        tokens, starts = [[0] * count] + [[]] * idle, [start] + [0] * idle
        began = time.perf_counter()
        program.forward(tokens, starts, range(max(0, count - program.max_rows), count))
        seconds[count] = min(time.perf_counter() - began, seconds.get(count, math.inf))
    for more, fewer in pairwise(sorted(seconds, reverse=True)):
        seconds[fewer] = min(seconds[fewer], seconds[more])  # No fewer rows take longer: that was something else.
    return interpolate(seconds)


def pace_of(*costs: list[float]) -> Pace:
    """How to prefill prompts with models, one or a second that drafts, whose forwards of 1, 2, 3, ... rows take `costs`
    seconds each."""

    def most(counts: tuple[int, ...], seconds: float) -> int:
        return next((count for count in counts if step_s(count, *costs) <= seconds), counts[-1])

    return Pace(most(ALONE, ALONE_S), most(BESIDE, BESIDE_S))


def step_s(rows: int, *costs: list[float]) -> float:
    """Seconds that forwards of so many rows take, one of each model."""
    return sum(cost(of_model, rows) for of_model in costs)


def load_draft(folder: Path, threads: int | None, announce: Announce, weights: HugePages) -> DraftModel:
    """Errors: those of `read_manifest` and `load_program`."""
    manifest = read_manifest(folder)
    program = load_program(folder, manifest, threads, announce, weights)
    return DraftModel(program, measure_costs(program), manifest.end_tokens, manifest.title)


def load_program(
    folder: Path, manifest: AnyManifest, threads: int | None, announce: Announce, weights: HugePages
) -> ForwardProgram:
    """Its weights are among those that move into huge pages, if it is read where it is mapped: XNNPACK has copies.
    Errors: those of `Program` and `StockProgram`."""
    if isinstance(manifest, StockManifest):
        return StockProgram(manifest, threads)
    program = Program(folder, manifest, threads, announce)
    if str(FP32) not in manifest.schemes:
        weights.add(folder / PROGRAM)
        weights.move(MOVE_S)
    return program


def main() -> None:
    socket, folder, threads, draft = sys.argv[1:]
    connection = connect(socket)
    try:
        try:
            announce = partial(connection.send, Compiling())
            scheduler, ready, weights = load(Path(folder), int(threads) or None, draft, announce)
        except FalconError as error:
            connection.send(error)
            return
        gc.freeze()  # What the imports made stays, and need not be looked through again and again.
        connection.send(ready)
        serve(connection, scheduler, weights)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # The parent has closed the engine or is gone.


def load(folder: Path, threads: int | None, draft: str, announce: Announce) -> tuple[Scheduler, Ready, HugePages]:
    """The model and, if `draft` is not empty, a draft model, whose errors are told in `Ready`; and what is left to move
    of their weights. Errors: those of `read_model` and `load_program`."""
    manifest = read_model(folder)
    other_bytes = manifest.memory_bytes - manifest.program_bytes
    weights = HugePages(lambda: available_memory() - other_bytes)
    beside = compile_beside(SAMPLING)
    if beside:
        announce()
    program = load_program(folder, manifest, threads, announce, weights)
    if beside:
        beside.wait()
    passes(manifest.vocabulary, announce)
    costs, model, problem = [measure_costs(program)], None, None
    if draft:
        try:
            model = load_draft(Path(draft), threads, announce, weights)
            costs.append(model.costs)
        except FalconError as error:
            problem = error
    pace = pace_of(*costs)
    # Drafting takes some short forwards more, for which a parent's patience is long enough.
    forwards = {1: costs[0][0], len(costs[0]): costs[0][-1]}
    ready = Ready(step_s(pace.alone, *costs), forwards, model.name if model else None, problem)
    grammars = Grammars(tokenizer_folder(folder, manifest) / "tokenizer.json", manifest.vocabulary, manifest.end_tokens)
    return Scheduler(program, manifest.end_tokens, pace, costs[0], model, grammars), ready, weights


if __name__ == "__main__":
    main()
