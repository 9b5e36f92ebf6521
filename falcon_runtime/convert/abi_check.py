"""Makes the program with which the engine checks ExecuTorch's binary interface: `python -m
falcon_runtime.convert.abi_check`."""

import torch
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass
from torch import Tensor, nn

from ..engine.kernels.abi_check import NUMBER, OPERATOR, PROGRAM, ROOM, SHAPE
from .traced.operators import LIBRARY, define

define(OPERATOR, "Tensor x, float number, bool flag")
torch.library.impl(LIBRARY, OPERATOR, "Meta")(lambda x, number, flag: torch.empty_like(x))


class OneCall(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.ops.falcon.abi_check(x, NUMBER, True)
        return result


def main() -> None:
    # Sizes that may change, which ExecuTorch keeps where they can, and fewer numbers than there is room for.
    shapes = ({1: torch.export.Dim("n", min=1, max=ROOM[1])},)
    exported = torch.export.export(OneCall(), (torch.zeros(SHAPE),), dynamic_shapes=shapes)
    edge = to_edge(exported, compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
    config = ExecutorchBackendConfig(sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass())
    PROGRAM.write_bytes(edge.to_executorch(config).buffer)


if __name__ == "__main__":
    main()
