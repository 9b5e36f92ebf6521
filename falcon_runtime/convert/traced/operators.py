"""The operators `falcon::…`, as tracing knows them and in plain torch. The engine has kernels of its own for them:
engine/kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.architecture import SCALE_BYTES
from ...models.recipes import BLOCK, GROUP, PACKED, SHIFTS
from ..quantize import unpacked

LIBRARY = torch.library.Library("falcon", "DEF")  # type: ignore[no-untyped-call]
ARGUMENTS = {
    "attention": "Tensor qkv, Tensor positions, Tensor sequences, Tensor cos, Tensor sin, Tensor(a!) cache",
    "embedding": "Tensor tokens, Tensor weight",
    "norm_linear": "Tensor x, Tensor norm, float eps, Tensor weight, int outputs, bool precise",
    "linear_add": "Tensor x, Tensor weight, Tensor residual",
    "gated_linear_add": "Tensor gate_up, Tensor weight, Tensor residual",
}


def define(name: str, arguments: str) -> None:
    """Makes falcon::<name> known to torch, and the form with a place for the result, which ExecuTorch calls."""
    LIBRARY.define(f"{name}({arguments}) -> Tensor")  # type: ignore[no-untyped-call]
    LIBRARY.define(f"{name}.out({arguments}, *, Tensor(z!) out) -> Tensor(z!)")  # type: ignore[no-untyped-call]
    torch.library.impl(LIBRARY, f"{name}.out", "Meta")(lambda *arguments, out: out)


for name, arguments in ARGUMENTS.items():
    define(name, arguments)


@torch.library.impl(LIBRARY, "embedding", "Meta")
def embedding(tokens: Tensor, weight: Tensor) -> Tensor:
    """The rows [1, N, size] that tokens [1, N] have in a packed table, float32."""
    return weight.new_empty(1, tokens.shape[1], weight.shape[1] * BLOCK, dtype=torch.float32)


@torch.library.impl(LIBRARY, "embedding", "CPU")
def embedding_in_torch(tokens: Tensor, weight: Tensor) -> Tensor:
    return F.embedding(tokens, _unpacked(weight))


@torch.library.impl(LIBRARY, "norm_linear", "Meta")
def norm_linear(x: Tensor, norm: Tensor, eps: float, weight: Tensor, outputs: int, precise: bool) -> Tensor:
    """The product [1, N, outputs] of a packed weight with x [1, N, size] after RMSNorm with the weights `norm` [size].

    In this and the next two, inputs are rounded to 8 bits with a scale for every 32 of them (`rounded`); where it is to
    be `precise`, what that leaves is rounded so again. The engine also does it where a block needs it.
    """
    return x.new_empty(1, x.shape[1], outputs)


@torch.library.impl(LIBRARY, "norm_linear", "CPU")
def norm_linear_in_torch(x: Tensor, norm: Tensor, eps: float, weight: Tensor, outputs: int, precise: bool) -> Tensor:
    x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * norm
    return _product(x, weight, twice=precise)[..., :outputs]


@torch.library.impl(LIBRARY, "linear_add", "Meta")
def linear_add(x: Tensor, weight: Tensor, residual: Tensor) -> Tensor:
    """`residual` [1, N, outputs] plus the product of a packed weight with x [1, N, inputs]."""
    return torch.empty_like(residual)


@torch.library.impl(LIBRARY, "linear_add", "CPU")
def linear_add_in_torch(x: Tensor, weight: Tensor, residual: Tensor) -> Tensor:
    return residual + _product(x, weight)[..., : residual.shape[-1]]


@torch.library.impl(LIBRARY, "gated_linear_add", "Meta")
def gated_linear_add(gate_up: Tensor, weight: Tensor, residual: Tensor) -> Tensor:
    """`residual` [1, N, outputs] plus the product of a packed weight with SwiGLU's silu(gate) * up, of which `gate_up`
    [1, N, 2 * inputs] has first all of the one and then all of the other."""
    return torch.empty_like(residual)


@torch.library.impl(LIBRARY, "gated_linear_add", "CPU")
def gated_linear_add_in_torch(gate_up: Tensor, weight: Tensor, residual: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return linear_add_in_torch(F.silu(gate) * up, weight, residual)


def _unpacked(weight: Tensor) -> Tensor:
    (scheme,) = (scheme for scheme in PACKED if scheme.block_bytes == weight.shape[-1])
    return unpacked(weight, scheme)


def _product(x: Tensor, weight: Tensor, twice: bool = False) -> Tensor:
    near = rounded(x)
    return F.linear(near + rounded(x - near) if twice else near, _unpacked(weight))


def rounded(x: Tensor) -> Tensor:
    """x [..., size] rounded to integers, up to 127, times the scale of their block. It is the smallest that suffices of
    those that the group has: that of its largest block, divided by powers of two."""
    blocks = x.view(*x.shape[:-1], -1, BLOCK)
    tops = blocks.abs().amax(-1)
    groups = F.pad(tops, (0, -tops.shape[-1] % GROUP)).view(*x.shape[:-1], -1, GROUP)
    largest = groups.amax(-1, keepdim=True).expand_as(groups).flatten(-2)[..., : tops.shape[-1]]
    power = torch.where(tops > 0, (largest / tops).log2().floor(), SHIFTS).clamp(0, SHIFTS)
    scale = (largest / 127 * 2**-power)[..., None]
    return (torch.where(scale > 0, blocks / scale, 0).round() * scale).flatten(-2)


@torch.library.impl(LIBRARY, "attention", "Meta")
def attention(qkv: Tensor, positions: Tensor, sequences: Tensor, cos: Tensor, sin: Tensor, cache: Tensor) -> Tensor:
    """RoPE, an update of the KV cache, and causal attention.

    `qkv` [1, N, (heads + 2 * kv_heads) * head_dim], float32, are the projections of N tokens, with `positions` [N] in
    `sequences` [N]; `cos` and `sin` [context, head_dim] are the tables of `LlamaConfig.rope_tables`, and `cache`
    [slots, 2, kv_heads, context, head_dim], float16 or float32, holds keys and values. Or they are int8, each with its
    scale, a float32: [slots, 2, kv_heads, context, head_dim + 4]. Gives [1, N, heads * head_dim].
    """
    return qkv.new_empty(1, qkv.shape[1], qkv.shape[2] - 2 * cache.shape[2] * _head_dim(cache))


@torch.library.impl(LIBRARY, "attention", "CPU")
def attention_in_torch(
    qkv: Tensor, positions: Tensor, sequences: Tensor, cos: Tensor, sin: Tensor, cache: Tensor
) -> Tensor:
    kv_heads, size = cache.shape[2], _head_dim(cache)
    heads = qkv.view(len(positions), -1, size)
    q, k, v = heads.split([heads.shape[1] - 2 * kv_heads, kv_heads, kv_heads], 1)  # type: ignore[no-untyped-call]
    q, k = (x * cos[positions, None] + x.roll(size // 2, -1) * sin[positions, None] for x in (q, k))
    cache[sequences, 0, :, positions] = _stored(k, cache.dtype)
    cache[sequences, 1, :, positions] = _stored(v, cache.dtype)
    rows = []
    for row, (sequence, position) in enumerate(zip(sequences.tolist(), positions.tolist(), strict=True)):
        keys, values = _read(cache[sequence, :, :, : position + 1])
        rows.append(F.scaled_dot_product_attention(q[row, :, None], keys, values, enable_gqa=True).flatten())
    return torch.stack(rows)[None]


def _head_dim(cache: Tensor) -> int:
    return cache.shape[4] - (SCALE_BYTES if cache.dtype == torch.int8 else 0)


def _stored(x: Tensor, kind: torch.dtype) -> Tensor:
    if kind != torch.int8:
        return x.to(kind)
    scale = x.abs().amax(-1, keepdim=True) / 127
    numbers = torch.where(scale > 0, x / scale, 0).round().to(kind)
    return torch.cat([numbers, scale.view(kind)], -1)


def _read(cached: Tensor) -> Tensor:
    if cached.dtype != torch.int8:
        return cached.float()
    numbers, scale = cached[..., :-SCALE_BYTES], cached[..., -SCALE_BYTES:].contiguous().view(torch.float32)
    return numbers.float() * scale
