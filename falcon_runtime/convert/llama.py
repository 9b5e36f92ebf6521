"""The Llama that is exported: one ragged forward over several sequences, each with its own KV cache.

It computes what `transformers.LlamaForCausalLM` computes, arranged for a small graph: query, key and value are one
projection, gate and up another, RoPE is one multiplication by tables, the KV caches are buffers written in place.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..architecture import Architecture
from ..recipes import LayerSchemes, Schemes
from . import operators  # noqa: F401  (registers torch.ops.falcon.*)
from .modules import make_embedding, make_linear


class RMSNorm(nn.Module):
    """Gives [1, N, size], or [1, N, blocks, block] to a linear layer that takes that: in this shape from the start, so
    that the norm and what the layer does with the blocks are one delegate."""

    def __init__(self, shape: tuple[int, ...], eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(shape), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.pow(2).mean(-1, keepdim=True)
        if self.weight.ndim == 2:
            x, mean = x.view(1, x.shape[1], *self.weight.shape), mean[..., None]
        return x * torch.rsqrt(mean + self.eps) * self.weight


class Attention(nn.Module):
    def __init__(self, architecture: Architecture, schemes: LayerSchemes, cache: Tensor):
        super().__init__()
        self.qkv = make_linear(*architecture.linear["qkv"], schemes.qkv)
        self.out = make_linear(*architecture.linear["out"], schemes.out)
        self.out_shape = schemes.out.blocks(architecture.heads * architecture.head_dim)
        self.cache: Tensor
        self.register_buffer("cache", cache, persistent=False)

    def forward(self, x: Tensor, positions: Tensor, sequences: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        attended: Tensor = torch.ops.falcon.attention(self.qkv(x), positions, sequences, cos, sin, self.cache)
        return self.out(attended.view(1, x.shape[1], *self.out_shape))


class Layer(nn.Module):
    def __init__(self, architecture: Architecture, schemes: LayerSchemes, cache: Tensor):
        super().__init__()
        hidden, eps = architecture.hidden, architecture.rms_norm_eps
        self.attention_norm = RMSNorm(schemes.qkv.blocks(hidden), eps)
        self.attention = Attention(architecture, schemes, cache)
        self.mlp_norm = RMSNorm(schemes.gate_up.blocks(hidden), eps)
        self.gate_up = make_linear(*architecture.linear["gate_up"], schemes.gate_up)
        self.down = make_linear(*architecture.linear["down"], schemes.down)
        self.down_shape = schemes.down.blocks(architecture.intermediate)

    def forward(self, x: Tensor, positions: Tensor, sequences: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), positions, sequences, cos, sin)
        first, *rest = self.down_shape
        gate, up = self.gate_up(self.mlp_norm(x)).view(1, x.shape[1], 2 * first, *rest).split(first, 2)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    """A Llama whose forward takes new tokens of several sequences at once and gives the logits of chosen rows.

    Weights, and RoPE's tables `cos` and `sin` [context, head_dim], are allocated and not set.
    """

    def __init__(self, architecture: Architecture, schemes: Schemes, slots: int, context: int):
        """It has as many layers as `schemes`, and room for `slots` sequences."""
        super().__init__()
        vocabulary, hidden, head_dim = architecture.vocabulary, architecture.hidden, architecture.head_dim
        shape = slots, 2, architecture.kv_heads, context, head_dim
        kind = torch.float16 if schemes.cache_bits == 16 else torch.float32
        self.embed = make_embedding(vocabulary, hidden, schemes.embedding)
        self.layers = nn.ModuleList(
            Layer(architecture, layer, torch.zeros(shape, dtype=kind)) for layer in schemes.layers
        )
        self.head = make_linear(vocabulary, hidden, schemes.head)
        self.norm = RMSNorm(schemes.head.blocks(hidden), architecture.rms_norm_eps)
        self.cos = nn.Parameter(torch.empty(context, head_dim), requires_grad=False)
        self.sin = nn.Parameter(torch.empty(context, head_dim), requires_grad=False)

    def forward(self, tokens: Tensor, positions: Tensor, sequences: Tensor, rows: Tensor) -> Tensor:
        """Logits [1, R, vocabulary] of the batch rows `rows` [R].

        `tokens` [1, N] are new tokens of any of the sequences, `sequences` [N] to which of them each belongs (below
        SLOTS) and `positions` [N] where in it. A token attends to its sequence up to its own position.
        """
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, positions, sequences, self.cos, self.sin)
        return self.head(self.norm(x.index_select(1, rows)))
