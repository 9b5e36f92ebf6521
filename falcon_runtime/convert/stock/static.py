"""The Llama in the stock contract with static shapes: one token at a time, for compilers that know no others.

Nor do they know ExecuTorch's operators for attention and caches. So a token is written into the cache by index, and
attends to all of the cache, of which a mask leaves what came before it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...models.architecture import Architecture
from ...models.recipes import Schemes
from .llama import Llama
from .modules import RMSNorm

MASKED = -255.0
"""Added to the scores of what is not attended to. More would leave fewer of 65,536 steps for scores that count."""
EXAMPLE = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, dtype=torch.long)
"""Inputs of the one shape there is."""


def static_constants(constants: Mapping[str, Any]) -> dict[str, Any]:
    """`constants` of a stock file, as they are for one that is run token by token, up to its context."""
    tokens = constants["get_max_context_len"]
    return {**constants, "get_max_seq_len": tokens, "use_sdpa_with_kv_cache": False, "enable_dynamic_shape": False}


class Attention(nn.Module):
    def __init__(self, architecture: Architecture, context: int):
        super().__init__()
        a = architecture
        self.heads, self.kv_heads, self.head_dim = a.heads, a.kv_heads, a.head_dim
        for cache in ("keys", "values"):
            self.register_buffer(cache, torch.zeros(1, context, a.kv_heads, a.head_dim), persistent=False)

    def forward(self, qkv: Tensor, place: tuple[Tensor, Tensor], cos: Tensor, sin: Tensor) -> Tensor:
        """As in `Llama`, of one token, whose `place` is its position [1] and the mask [1, context]."""
        position, mask = place
        half, rotated = self.head_dim // 2, self.heads + self.kv_heads
        qk, v = qkv.view(1, 1, rotated + self.kv_heads, self.head_dim).split([rotated, self.kv_heads], 2)  # type: ignore[no-untyped-call]
        left, right = qk.split([half, half], 3)
        q, k = (qk * cos + torch.cat([right, left], 3) * sin).split([self.heads, self.kv_heads], 2)
        keys = torch.ops.aten.index_put_(self.keys, [None, position], k)
        values = torch.ops.aten.index_put_(self.values, [None, position], v)
        # Heads that share a key are rows of one product, and no key is repeated.
        q = q.view(1, self.kv_heads, self.heads // self.kv_heads, self.head_dim)
        scores = q @ keys.permute(0, 2, 3, 1) * self.head_dim**-0.5 + mask
        return (scores.softmax(3) @ values.permute(0, 2, 1, 3)).reshape(1, 1, self.heads * self.head_dim)


class StaticLlama(Llama):
    """Weights are in float32, allocated and not set, as in `Llama`."""

    def __init__(self, architecture: Architecture, schemes: Schemes, context: int):
        super().__init__(architecture, schemes, context)
        for layer in self.layers:
            layer.attention = Attention(architecture, context)
        for module in (self, *self.layers):
            for name, child in list(module.named_children()):
                if isinstance(child, RMSNorm):  # As the one operator that such compilers know.
                    module.register_module(name, nn.RMSNorm(child.weight.shape, child.eps).requires_grad_(False))
        self.mask: Tensor
        self.register_buffer("mask", torch.full((context, context), MASKED).triu(1), persistent=False)

    def forward(self, tokens: Tensor, input_pos: Tensor) -> Tensor:
        """Logits [1, vocabulary] of `tokens` [1, 1], whose position is `input_pos` [1]."""
        cos, sin, mask = (table.index_select(0, input_pos) for table in (self.cos, self.sin, self.mask))
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, (input_pos, mask), cos, sin)
        return self.head(self.norm(x)).view(1, -1)
