"""The Llama that is exported: one ragged forward over several sequences, each with its own KV cache.

It computes what `transformers.LlamaForCausalLM` computes, arranged for a small graph: query, key and value are one
projection, gate and up another, RoPE is one multiplication by tables, the KV caches are buffers written in place.
"""

import torch
from torch import Tensor, nn

from ...models.architecture import Architecture, head_bytes
from ...models.recipes import LayerSchemes, Schemes
from .modules import RMSNorm, make_embedding, make_linear

CACHES = {8: torch.int8, 16: torch.float16, 32: torch.float32}
"""What a KV cache consists of, by the bits of its numbers."""


class Layer(nn.Module):
    def __init__(self, architecture: Architecture, schemes: LayerSchemes, cache: Tensor):
        super().__init__()
        shapes, hidden, eps = architecture.linear, architecture.hidden, architecture.rms_norm_eps
        self.attention_norm = RMSNorm(hidden, eps)
        self.qkv = make_linear(*shapes["qkv"], schemes.qkv)
        self.cache: Tensor
        self.register_buffer("cache", cache, persistent=False)
        self.out = make_linear(*shapes["out"], schemes.out)
        self.mlp_norm = RMSNorm(hidden, eps)
        self.gate_up = make_linear(*shapes["gate_up"], schemes.gate_up)
        self.down = make_linear(*shapes["down"], schemes.down)

    def forward(self, x: Tensor, positions: Tensor, sequences: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        qkv = self.qkv.normed(x, self.attention_norm)
        x = self.out.added(torch.ops.falcon.attention(qkv, positions, sequences, cos, sin, self.cache), x)
        return self.down.gated(self.gate_up.normed(x, self.mlp_norm), x)


class Llama(nn.Module):
    """A Llama whose forward takes new tokens of several sequences at once and gives the logits of chosen rows.

    Weights, and RoPE's tables `cos` and `sin` [context, head_dim], are allocated and not set.
    """

    def __init__(self, architecture: Architecture, schemes: Schemes, slots: int, context: int):
        """It has as many layers as `schemes`, and room for `slots` sequences."""
        super().__init__()
        vocabulary, hidden, head_dim = architecture.vocabulary, architecture.hidden, architecture.head_dim
        kind = CACHES[schemes.cache_bits]
        size = head_bytes(head_dim, schemes.cache_bits) // kind.itemsize
        shape = slots, 2, architecture.kv_heads, context, size
        self.embed = make_embedding(vocabulary, hidden, schemes.embedding)
        self.layers = nn.ModuleList(
            Layer(architecture, layer, torch.zeros(shape, dtype=kind)) for layer in schemes.layers
        )
        self.head = make_linear(vocabulary, hidden, schemes.head)
        self.precise_head = schemes.precise_head
        self.norm = RMSNorm(hidden, architecture.rms_norm_eps)
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
        return self.head.normed(x.index_select(1, rows), self.norm, self.precise_head)
