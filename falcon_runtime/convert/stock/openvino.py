"""The program of a model for OpenVINO, Intel's library for its processors, GPUs and NPUs, which ExecuTorch calls.

OpenVINO's compiled code is in the file. It knows neither ExecuTorch's operators nor sizes that change (a program of
`llama.py` makes ExecuTorch's partitioner fail on a SymInt), so this is the static module, in float32.
"""

from pathlib import Path
from typing import Any

import torch

from ...errors import ConversionFailed
from ...status import Report
from ..checkpoint import Checkpoint
from ..plan import Plan
from ..progress import Progress
from .filling import filled
from .static import EXAMPLE, StaticLlama, static_constants

DEVICE = b"CPU"


def write_program(plan: Plan, checkpoint: Checkpoint, path: Path, constants: dict[str, Any], report: Report) -> None:
    """Errors: DownloadFailed, ConversionFailed."""
    from executorch.backends.openvino.partitioner import OpenvinoPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    from executorch.exir.backend.backend_details import CompileSpec

    model = filled(checkpoint, plan.schemes, plan.context, StaticLlama)
    with Progress(plan.title, report).tracing() as traced, torch.no_grad():
        exported = torch.export.export(model, EXAMPLE, strict=False)
        traced()
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=[OpenvinoPartitioner([CompileSpec("device", DEVICE)])],
            constant_methods=static_constants(constants),
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        )
        program = edge.to_executorch()
    if len(program.executorch_program.execution_plan[0].delegates) != 1:
        raise ConversionFailed(f"OpenVINO does not take all of {plan.title}. Convert it --for stock.")
    with path.open("wb") as file:
        program.write_to_file(file)
