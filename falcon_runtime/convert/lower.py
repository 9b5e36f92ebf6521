"""From the export-friendly Llama to a .pte: torch.export, XNNPACK partitioning, memory planning."""

from collections.abc import Callable

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
    XnnpackDynamicallyQuantizedPartitioner,
    XnnpackPartitioner,
)
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass
from executorch.exir.program import ExecutorchProgramManager

from .llama import Llama


def lower(
    model: Llama, max_tokens: int, max_rows: int, traced: Callable[[], None] = lambda: None
) -> ExecutorchProgramManager:
    """The program of `model` for up to `max_tokens` new tokens and `max_rows` rows of logits in one forward.

    `traced` is called after torch.export, a small part of the whole way.
    """
    slots = model.slots
    n = torch.export.Dim("n", min=slots, max=max_tokens)
    r = torch.export.Dim("r", min=1, max=max_rows)
    counts = torch.ones(slots, dtype=torch.long)
    counts[0] = 3
    total = int(counts.sum())
    example = (
        torch.zeros(1, total, dtype=torch.long),
        torch.zeros(total, dtype=torch.long),
        torch.zeros(slots, dtype=torch.long),
        counts,
        torch.tensor([0, 1]),
    )
    shapes = ({1: n}, {0: n}, None, None, {0: r})
    with torch.no_grad():
        exported = torch.export.export(model, example, dynamic_shapes=shapes, strict=False)
        traced()
        edge = to_edge_transform_and_lower(
            exported,
            # The first takes the quantized linears with their activations, the second what is left and float.
            partitioner=[XnnpackDynamicallyQuantizedPartitioner(), XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        )
        return edge.to_executorch(
            ExecutorchBackendConfig(
                memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False),
                # The planner needs upper bounds of the dynamic sizes.
                sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass(),
            )
        )
