"""The operator `falcon::attention`, as tracing knows it. What computes it is engine/attention.py."""

import torch
from torch import Tensor

LIBRARY = torch.library.Library("falcon", "DEF")  # type: ignore[no-untyped-call]
ARGUMENTS = "Tensor qkv, Tensor positions, Tensor sequences, Tensor cos, Tensor sin, Tensor(a!) cache"
LIBRARY.define(f"attention({ARGUMENTS}) -> Tensor")  # type: ignore[no-untyped-call]
LIBRARY.define(f"attention.out({ARGUMENTS}, *, Tensor(b!) out) -> Tensor(b!)")  # type: ignore[no-untyped-call]


@torch.library.impl(LIBRARY, "attention", "Meta")
def attention(qkv: Tensor, positions: Tensor, sequences: Tensor, cos: Tensor, sin: Tensor, cache: Tensor) -> Tensor:
    """RoPE, an update of the KV cache, and causal attention.

    `qkv` [1, N, (heads + 2 * kv_heads) * head_dim], float32, are the projections of N tokens, with `positions` [N] in
    `sequences` [N]; `cos` and `sin` [context, head_dim] are the tables of `Checkpoint.rope_tables`, and `cache`
    [slots, 2, kv_heads, context, head_dim], float16 or float32, holds keys and values. Gives [1, N, heads * head_dim].
    """
    return qkv.new_empty(1, qkv.shape[1], qkv.shape[2] - 2 * cache.shape[2] * cache.shape[4])


@torch.library.impl(LIBRARY, "attention.out", "Meta")
def attention_out(
    qkv: Tensor, positions: Tensor, sequences: Tensor, cos: Tensor, sin: Tensor, cache: Tensor, *, out: Tensor
) -> Tensor:
    return out
