"""Where the activations of a program lie while it runs.

executorch plans them for the short stack that is lowered; with more layers the plan has to be made again.
"""

import math
from dataclasses import dataclass

from executorch.exir._serialize.padding import aligned_size
from executorch.exir.scalar_type import ScalarType
from executorch.exir.schema import KernelCall, Tensor
from executorch.exir.tensor import ALIGNMENT

from ..graph import ACTIVATION_ARENA, allocation
from .graph import Lists, TracedGraph

ITEM_SIZE = {ScalarType.FLOAT: 4, ScalarType.INT: 4, ScalarType.LONG: 8, ScalarType.BOOL: 1, ScalarType.CHAR: 1}


@dataclass
class Block:
    """Memory of a tensor, or of several that are views of one another."""

    size: int
    first: int
    """The first instruction that uses it."""
    last: int
    """The last one that does."""
    tensors: list[Tensor]
    offset: int = 0


def plan_memory(graph: TracedGraph) -> None:
    """Gives every activation a place in the arena; two share one if no instruction needs both.

    The largest are placed first, each at the lowest offset that is free as long as it lives.
    """
    placed: list[Block] = []
    for block in sorted(_blocks(graph), key=lambda block: -block.size):
        neighbours = [other for other in placed if other.first <= block.last and block.first <= other.last]
        for other in sorted(neighbours, key=lambda other: other.offset):
            if block.offset + block.size <= other.offset:
                break
            block.offset = max(block.offset, aligned_size(other.offset + other.size, ALIGNMENT))
        placed.append(block)
        for tensor in block.tensors:
            tensor.allocation_info = allocation(ACTIVATION_ARENA, block.offset)
    graph.plan.non_const_buffer_sizes[ACTIVATION_ARENA] = max(block.offset + block.size for block in placed)


def _blocks(graph: TracedGraph) -> list[Block]:
    values, operators = graph.plan.values, graph.plan.operators
    blocks: dict[int, Block] = {}
    for i, instruction in enumerate(graph.plan.chains[0].instructions):
        call = instruction.instr_args
        arguments = list(call.args)
        for argument in call.args:
            if isinstance(content := values[argument].val, Lists):
                arguments += content.items
        if isinstance(call, KernelCall) and operators[call.op_index].name == "executorch_prim::et_view":
            source, view = call.args[0], call.args[-1]
            if source in blocks:  # A view of something else than an activation has no memory either.
                blocks[view] = blocks[source]
                blocks[view].tensors.append(values[view].val)
        for argument in arguments:
            content = values[argument].val
            if not isinstance(content, Tensor) or not content.allocation_info:
                continue
            if content.allocation_info.memory_id != ACTIVATION_ARENA:
                continue
            if argument not in blocks:
                size = math.prod(content.sizes) * ITEM_SIZE[ScalarType(content.scalar_type)]
                blocks[argument] = Block(size, i, i, [content])
            blocks[argument].last = i
    for output in graph.plan.outputs:
        blocks[output].last = len(graph.plan.chains[0].instructions)
    return list({id(block): block for block in blocks.values()}.values())
