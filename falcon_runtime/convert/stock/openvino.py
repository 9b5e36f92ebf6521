"""The program of a model for OpenVINO, Intel's library for its processors, GPUs and NPUs, which ExecuTorch calls.

OpenVINO's compiled code is in the file. It knows neither ExecuTorch's operators nor sizes that change (a program of
`llama.py` makes ExecuTorch's partitioner fail on a SymInt), so this is the static module, in float32.
"""

import importlib.util
from pathlib import Path
from typing import Any

import torch

from ...errors import BackendUnavailable, ConversionFailed
from ..checkpoint import Checkpoint
from ..plan import Plan
from ..progress import Progress
from .filling import filled
from .static import EXAMPLE, StaticLlama

PACKAGES = {"openvino": "openvino>=2025.1,<2026", "nncf": "nncf==3.1.0"}
"""What ExecuTorch 1.5's backends/openvino needs; without nncf, it cannot be imported."""
DEVICE = b"CPU"


def check_packages() -> None:
    """Errors: BackendUnavailable."""
    if missing := [wanted for name, wanted in PACKAGES.items() if importlib.util.find_spec(name) is None]:
        command = " ".join(f"'{wanted}'" for wanted in missing)
        raise BackendUnavailable(f"Lowering for OpenVINO takes packages that are not installed: pip install {command}")


def write_program(
    plan: Plan, checkpoint: Checkpoint, path: Path, constants: dict[str, Any], progress: Progress
) -> None:
    """Errors: DownloadFailed, ConversionFailed."""
    from executorch.backends.openvino.partitioner import OpenvinoPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower
    from executorch.exir.backend.backend_details import CompileSpec

    model = filled(checkpoint, plan.schemes, plan.context, StaticLlama)
    with progress.tracing() as traced, torch.no_grad():
        exported = torch.export.export(model, EXAMPLE, strict=False)
        traced()
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=[OpenvinoPartitioner([CompileSpec("device", DEVICE)])],
            constant_methods=constants,
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        )
        program = edge.to_executorch()
    if len(program.executorch_program.execution_plan[0].delegates) != 1:
        raise ConversionFailed(f"OpenVINO does not take all of {plan.title}. Convert it --for stock.")
    with path.open("wb") as file:
        program.write_to_file(file)
