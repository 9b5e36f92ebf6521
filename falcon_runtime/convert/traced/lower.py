"""From the export-friendly Llama to a program and its graph: torch.export, XNNPACK partitioning, memory planning."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from executorch.exir.passes.sym_shape_eval_pass import ConstraintBasedSymShapeEvalPass
from executorch.exir.program import ExecutorchProgramManager
from executorch.exir.tensor import ALIGNMENT
from torch import Tensor, nn

from ...models.architecture import MAX_ROWS, MAX_TOKENS, Architecture
from ...models.recipes import Schemes
from ..graph import TIED, Graph, Weight
from .graph import TracedGraph, key_of, rekey
from .llama import Llama
from .stack import shortened, stacked

TRACED_CONTEXT = 2 * MAX_TOKENS
TRACED_SLOTS = 2
"""Context and slots that a graph is traced with; `Graph.with_caches` gives it any others."""


def traced_graph(
    architecture: Architecture, schemes: Schemes, slots: int, context: int, traced: Callable[[], None] = lambda: None
) -> Graph:
    """The graph of a Llama of this shape and these schemes, with KV caches for `slots` sequences of `context` tokens.

    Takes ten seconds to a minute, and the memory of three layers and the output layer. `traced` is called when tracing
    is done and lowering, most of the whole, begins.
    """
    graph = trace(architecture, schemes, traced)
    graph = stacked(graph, [str(layer) for layer in schemes.layers]).with_caches(slots, context)
    graph.same = TIED if schemes.shared else {}
    return graph


def trace(architecture: Architecture, schemes: Schemes, traced: Callable[[], None] = lambda: None) -> TracedGraph:
    """The graph of a Llama with its layers shortened, whatever its weights, its context and its slots."""
    short = replace(schemes, layers=shortened(schemes.layers))
    model = Llama(architecture, short, TRACED_SLOTS, TRACED_CONTEXT).eval()
    _randomize(model)
    return graph_of(model, lower(model, traced), [str(layer) for layer in short.layers])


def lower(model: Llama, traced: Callable[[], None] = lambda: None) -> ExecutorchProgramManager:
    """The program of `model` for up to MAX_TOKENS new tokens and MAX_ROWS rows of logits in one forward.

    `traced` is called after torch.export, a small part of the whole way.
    """
    n = torch.export.Dim("n", min=1, max=MAX_TOKENS)
    r = torch.export.Dim("r", min=1, max=MAX_ROWS)
    # Of sizes other than 0 and 1, which torch.export takes for constants. Each is a tensor of its own: one that occurs
    # twice would be one input.
    tokens, positions, sequences = torch.zeros(3, 3, dtype=torch.long).unbind()
    example = (tokens[None], positions, sequences, torch.zeros(2, dtype=torch.long))
    shapes = ({1: n}, {0: n}, {0: n}, {0: r})
    with torch.no_grad():
        exported = torch.export.export(model, example, dynamic_shapes=shapes, strict=False)
        traced()
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
        )
        return edge.to_executorch(
            ExecutorchBackendConfig(
                # The KV caches, which are all the buffers there are, get an arena of their own (graph.py).
                memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False, share_mutable_buffers=True),
                # The planner needs upper bounds of the dynamic sizes.
                sym_shape_eval_pass=ConstraintBasedSymShapeEvalPass(),
            )
        )


def graph_of(model: Llama, program: ExecutorchProgramManager, layers: list[str]) -> TracedGraph:
    """The program of `model` as a graph. No two weights of the model may be equal: they are told by their bytes."""
    weights = {
        _digest(_bytes(tensor)): (name, Weight("float32", tuple(tensor.shape)))
        for name, tensor in model.named_parameters()
    }
    # As it is before it is serialized, which would copy all weights.
    graph, data = TracedGraph(program.executorch_program, {}, {}, layers=layers), program._named_data
    for i, buffer in enumerate(graph.program.constant_buffer):
        if found := weights.get(_digest(buffer.storage)):
            graph.constants[i], graph.weights[found[0]] = found
            buffer.storage = b""
    keys = {}
    for key, entry in data.pte_data.items() if data else ():  # None where no delegate has weights.
        content = data.buffers[entry.buffer_index]
        if found := weights.get(_digest(content)):
            name, graph.weights[name] = found
            keys[key[-64:].encode()] = key_of(name).encode()
            graph.named[key[:-64] + key_of(name)] = name
        else:
            graph.named[key] = content
    for delegate in graph.program.backend_delegate_data:
        delegate.data = rekey(delegate.data, keys)
    missing = {name for name, _ in model.named_parameters()} - graph.weights.keys()
    assert not missing, f"Weights that the exporter stored in a way that is not known here: {missing}"
    return graph


def _randomize(model: nn.Module) -> None:
    """Gives every weight numbers of its own, by which `graph_of` tells it from all others."""
    torch.manual_seed(0)
    for weight in model.parameters():
        weight.uniform_(0.5, 1)


def _bytes(numbers: Tensor) -> memoryview:
    return memoryview(numbers.contiguous().numpy().data).cast("B")


def _digest(data: bytes | memoryview) -> bytes:
    """Of `data` padded as executorch pads constants when it puts them together."""
    digest = hashlib.sha256(data)
    digest.update(bytes(-len(data) % ALIGNMENT))
    return digest.digest()
