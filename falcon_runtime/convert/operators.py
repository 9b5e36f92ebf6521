"""The operator `falcon::attention`, as tracing knows it and in plain torch. The engine has a kernel of its own for it,
engine/attention.py."""

import torch
import torch.nn.functional as F
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


@torch.library.impl(LIBRARY, "attention", "CPU")
def attention_in_torch(
    qkv: Tensor, positions: Tensor, sequences: Tensor, cos: Tensor, sin: Tensor, cache: Tensor
) -> Tensor:
    kv_heads, size = cache.shape[2], cache.shape[4]
    heads = qkv.view(len(positions), -1, size)
    q, k, v = heads.split([heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads], 1)  # type: ignore[no-untyped-call]
    q, k = (x * cos[positions, None] + x.roll(size // 2, -1) * sin[positions, None] for x in (q, k))
    cache[sequences, 0, :, positions] = k.to(cache.dtype)
    cache[sequences, 1, :, positions] = v.to(cache.dtype)
    rows = []
    for row, (sequence, position) in enumerate(zip(sequences.tolist(), positions.tolist(), strict=True)):
        keys, values = cache[sequence, :, :, : position + 1].float()
        rows.append(F.scaled_dot_product_attention(q[row, :, None], keys, values, enable_gqa=True).flatten())
    return torch.stack(rows)[None]
