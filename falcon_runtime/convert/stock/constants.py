"""What a stock file says of itself."""

from collections.abc import Mapping
from typing import Any

from executorch.exir.schema import Bool, Chain, ContainerMetadata, EValue, ExecutionPlan, Int
from torch.utils._pytree import tree_structure, treespec_dumps

from ...models.architecture import Architecture

MAX_TOKENS = 256
"""New tokens in one forward, where the context has as many; runners cut longer prompts into pieces. A program has
memory for its activations from the start, for as many tokens as one forward may have."""


def constant_methods(
    architecture: Architecture, context: int, bos: int | None, ends: tuple[int, ...]
) -> dict[str, Any]:
    """By the names that ExecuTorch's runners ask for (extension/llm/runner/constants.h): each is a method that gives a
    number, or several."""
    constants: dict[str, Any] = {
        "get_max_seq_len": min(MAX_TOKENS, context),
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


def methods(constants: Mapping[str, Any]) -> list[ExecutionPlan]:
    """As methods of a program."""
    return [_method(name, value) for name, value in constants.items()]


def _method(name: str, value: int | list[int]) -> ExecutionPlan:
    numbers = value if isinstance(value, list) else [value]
    return ExecutionPlan(
        name=name,
        container_meta_type=ContainerMetadata("", treespec_dumps(tree_structure(value))),
        values=[EValue(Bool(number) if isinstance(number, bool) else Int(number)) for number in numbers],
        inputs=[],
        outputs=list(range(len(numbers))),
        chains=[Chain([], [], [], None)],
        operators=[],
        delegates=[],
        non_const_buffer_sizes=[0],
    )
