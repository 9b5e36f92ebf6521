"""Making the program of a model for Qualcomm, in a process of its own (`worker.py`)."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch

from ...errors import ConversionFailed, FalconError
from ...models.qnn import library_path
from ...status import Report, Status
from ...system.child import Child
from ..checkpoint import Checkpoint
from ..plan import Plan
from ..stock.filling import filled
from ..stock.static import StaticLlama, static_constants
from .job import Calibrated, Job
from .texts import TEXTS

logger = logging.getLogger(__name__)

WEIGHTS = "weights.pt"
BITS = {"int8": 8, "int4": 4}


def write_program(plan: Plan, checkpoint: Checkpoint, path: Path, constants: dict[str, Any], report: Report) -> None:
    """Errors: DownloadFailed, ConversionFailed."""
    assert plan.chip
    weights = path.with_name(WEIGHTS)
    report(Status("converting", f"Reading {plan.title}"))
    torch.save(filled(checkpoint, plan.schemes, plan.context, StaticLlama).state_dict(), weights)
    job = Job(
        checkpoint.architecture,
        plan.context,
        plan.chip,
        BITS[plan.recipe],
        [checkpoint.tokenizer.encode(text) for text in TEXTS],
        static_constants(constants),
        weights,
        path,
    )
    try:
        _run(job, plan.title, report)
    finally:
        weights.unlink()


def _run(job: Job, title: str, report: Report) -> None:
    with tempfile.TemporaryFile() as log:
        child = Child("falcon_runtime.convert.qnn.worker", stderr=log, **library_path())
        try:
            child.connection.send(job)
            while isinstance(message := child.connection.recv(), Calibrated):
                if message.done < message.total:
                    part = message.done / message.total
                    report(Status("converting", f"Running {title} over sample texts, for the ranges", part))
                else:
                    report(Status("converting", f"Compiling {title} for {job.chip}, which takes minutes"))
        except (EOFError, OSError):
            message = ConversionFailed(
                f"Compiling {title} for {job.chip} ended early ({child.ended()[1]}); too little memory is the usual "
                "reason. Try a shorter --context, or a smaller model."
            )
        finally:
            child.kill()
        if isinstance(message, FalconError):
            log.seek(0)
            logger.info("compiling %s failed; it wrote:\n%s", title, log.read()[-4000:].decode(errors="replace"))
            raise message
