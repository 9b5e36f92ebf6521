"""The process that compiles for Qualcomm: `python -m falcon_runtime.convert.qnn.worker SOCKET`, started by `program.py`
with the SDK's libraries where the loader finds them. It takes a `Job`, sends `Calibrated`s, and at last an error, or
None when the program is written.

The only process that imports ExecuTorch's Qualcomm code: that changes settings of torch's, prints what it does, and
loads native code that may end it.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable

from ...errors import ConversionFailed, FalconError
from ...system.child import connect
from .job import Calibrated, Job


def main() -> None:
    connection = connect(sys.argv[1])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    job: Job = connection.recv()
    try:
        _run(job, lambda done, total: connection.send(Calibrated(done, total)))
        connection.send(None)
    except FalconError as error:
        connection.send(error)
    except Exception as error:  # Native code raises many kinds.
        what = f"{type(error).__name__}: {error!s:.300}"
        connection.send(ConversionFailed(f"Compiling for {job.chip} failed ({what}). Try --recipe int8."))


def _run(job: Job, on_progress: Callable[[int, int], None]) -> None:
    import torch

    from ..stock.schemes import stock_schemes
    from ..stock.static import StaticLlama
    from .lower import lowered
    from .quantize import quantized

    model = StaticLlama(job.architecture, stock_schemes("fp32", job.architecture), job.context).eval()
    model.load_state_dict(torch.load(job.weights, mmap=True), assign=True)
    program = lowered(quantized(model, job.chip, job.bits, job.texts, on_progress), job.chip, job.constants)
    with job.program.open("wb") as file:
        program.write_to_file(file)


if __name__ == "__main__":
    main()
