"""From a shape and its schemes to the graph of a stock file."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from ...models.architecture import Architecture
from ...models.recipes import Schemes
from ..graph import Graph
from ..traced.lower import graph_of, lower_module, randomize
from ..traced.stack import shortened, stacked
from .llama import Llama

MAX_TOKENS = 256
"""New tokens in one forward, where the context has as many; runners cut longer prompts into pieces. A program has
memory for its activations from the start, for as many tokens as one forward may have."""
TIED = {"head.weight": "embed.weight", "head.scale": "embed.scale"}
"""What is one where the output layer is the embedding."""


def max_tokens(context: int) -> int:
    """The most new tokens that one forward of a program with this context takes."""
    return min(MAX_TOKENS, context)


def constant_methods(
    architecture: Architecture, context: int, bos: int | None, ends: tuple[int, ...]
) -> dict[str, Any]:
    """What a stock file says of itself, by the names that ExecuTorch's runners ask for (extension/llm/runner/
    constants.h): each is a method that gives a number, or several."""
    constants: dict[str, Any] = {
        "get_max_seq_len": max_tokens(context),
        "get_max_context_len": context,
        "get_vocab_size": architecture.vocabulary,
        "get_n_layers": architecture.layers,
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": True,
        "enable_dynamic_shape": True,
    }
    if bos is not None:
        constants["get_bos_id"] = bos
    if ends:
        constants["get_eos_ids"] = list(ends)
    return constants


def stock_graph(
    architecture: Architecture,
    schemes: Schemes,
    context: int,
    constants: Mapping[str, Any],
    traced: Callable[[], None] = lambda: None,
) -> Graph:
    """The graph of a Llama of this shape in the stock contract. `traced` is called when tracing is done and lowering,
    most of the whole, begins."""
    short = replace(schemes, layers=shortened(schemes.layers))
    model = Llama(architecture, short, context).eval()
    randomize(model)
    # Of a length other than 0 and 1, which torch.export takes for constants.
    example = torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    shapes = {1: torch.export.Dim("n", min=1, max=max_tokens(context))}, None
    program = lower_module(model, example, shapes, constants, traced)
    graph = graph_of(model, program, [str(layer) for layer in short.layers])
    del model, program
    graph = stacked(graph, [str(layer) for layer in schemes.layers])
    graph.place_caches()
    graph.same = {name: other for name, other in TIED.items() if schemes.shared and name in graph.weights}
    return graph
