"""From a quantized graph to a program: ExecuTorch's partitioner for Qualcomm, and their compiler."""

from collections.abc import Mapping
from typing import Any

from executorch.backends.qualcomm.utils.utils import (
    generate_htp_compiler_spec,
    generate_qnn_executorch_compiler_spec,
    get_qnn_context_binary_alignment,
    to_edge_transform_and_lower_to_qnn,
)
from executorch.exir import ExecutorchBackendConfig
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.program import EdgeProgramManager, ExecutorchProgramManager
from torch.fx import GraphModule

from ...errors import ConversionFailed
from ..stock.static import EXAMPLE
from .chips import chipset


def compile_spec(chip: str) -> list[Any]:
    """What Qualcomm's compiler is told: the chip, and that the model is quantized."""
    return generate_qnn_executorch_compiler_spec(
        soc_model=chipset(chip), backend_options=generate_htp_compiler_spec(use_fp16=False)
    )


def lowered(graph: GraphModule, chip: str, constants: Mapping[str, Any]) -> ExecutorchProgramManager:
    """The program of a quantized `graph` for `chip`. Errors: ConversionFailed where the compiler gives up."""
    try:
        edge = partitioned(graph, chip, constants)
        return edge.to_executorch(
            ExecutorchBackendConfig(
                memory_planning_pass=MemoryPlanningPass(), segment_alignment=get_qnn_context_binary_alignment()
            )
        )
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ConversionFailed(
            f"Qualcomm's compiler could not make a program for {chip} ({error!s:.300}). Try --recipe int8, a shorter "
            "--context, or another version of the SDK."
        ) from error


def partitioned(graph: GraphModule, chip: str, constants: Mapping[str, Any]) -> EdgeProgramManager:
    """The program with all that the NPU takes in delegates. A linear layer is a convolution there, which is faster and
    has 4-bit weights."""
    return to_edge_transform_and_lower_to_qnn(
        graph, EXAMPLE, compile_spec(chip), constant_methods=dict(constants), convert_linear_to_conv2d=True
    )
