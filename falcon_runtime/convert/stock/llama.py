"""The Llama in the stock contract, which ExecuTorch's `TextLLMRunner` and the mobile apps run: one sequence, new tokens
from a position on, the logits of the last one; the KV cache is inside.

It computes what `transformers.LlamaForCausalLM` computes, arranged for a small graph: query, key and value are one
projection, gate and up another, RoPE is one multiplication by tables.
"""

import torch
import torch.nn.functional as F
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  (registers torch.ops.llama.*)
from torch import Tensor, nn

from ...models.architecture import Architecture
from ...models.recipes import LayerSchemes, Schemes
from .modules import RMSNorm, make_embedding, make_linear
from .schemes import blocks


class Attention(nn.Module):
    def __init__(self, architecture: Architecture, schemes: LayerSchemes, context: int):
        super().__init__()
        a = architecture
        self.heads, self.kv_heads, self.head_dim = a.heads, a.kv_heads, a.head_dim
        self.halves: Tensor
        # A product with it swaps the halves of a head.
        self.register_buffer("halves", torch.eye(a.head_dim).roll(a.head_dim // 2, 0), persistent=False)
        for cache in ("keys", "values"):
            self.register_buffer(cache, torch.zeros(1, context, a.kv_heads, a.head_dim), persistent=False)
        self.shape = blocks(schemes.out, a.heads * a.head_dim)

    def forward(self, qkv: Tensor, position: int, cos: Tensor, sin: Tensor) -> Tensor:
        """What the `out` projection takes, of `qkv` [1, N, (heads + 2 * kv_heads) * head_dim]."""
        x = qkv.view(1, -1, self.heads + 2 * self.kv_heads, self.head_dim)
        x = x * cos + F.linear(x, self.halves) * sin
        last = self.heads + self.kv_heads
        q, k, v = x[:, :, : self.heads], x[:, :, self.heads : last], x[:, :, last:]
        torch.ops.llama.update_cache(k, self.keys, position)
        torch.ops.llama.update_cache(v, self.values, position)
        attended: Tensor = torch.ops.llama.custom_sdpa(q, self.keys, self.values, position, None, 0.0, True)
        return attended.view(1, -1, *self.shape)


class Layer(nn.Module):
    def __init__(self, architecture: Architecture, schemes: LayerSchemes, context: int):
        super().__init__()
        shapes, hidden, eps = architecture.linear, architecture.hidden, architecture.rms_norm_eps
        self.attention_norm = RMSNorm(blocks(schemes.qkv, hidden), eps)
        self.qkv = make_linear(*shapes["qkv"], schemes.qkv)
        self.attention = Attention(architecture, schemes, context)
        self.out = make_linear(*shapes["out"], schemes.out)
        self.mlp_norm = RMSNorm(blocks(schemes.gate_up, hidden), eps)
        self.gate_up = make_linear(*shapes["gate_up"], schemes.gate_up)
        self.down = make_linear(*shapes["down"], schemes.down)
        self.width, self.down_shape = architecture.intermediate, blocks(schemes.down, architecture.intermediate)

    def forward(self, x: Tensor, position: int, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.out(self.attention(self.qkv(self.attention_norm(x)), position, cos, sin))
        gate_up = self.gate_up(self.mlp_norm(x))
        gate, up = (
            part.view(1, -1, *self.down_shape) for part in (gate_up[..., : self.width], gate_up[..., self.width :])
        )
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    """Weights, and RoPE's tables `cos` and `sin` [context, head_dim], are allocated and not set. The sign of
    `rotate_half` is in the sines (`LlamaConfig.rope_tables`)."""

    def __init__(self, architecture: Architecture, schemes: Schemes, context: int):
        """It has as many layers as `schemes`."""
        super().__init__()
        vocabulary, hidden = architecture.vocabulary, architecture.hidden
        self.context = context
        self.embed = make_embedding(vocabulary, hidden, schemes.embedding)
        self.layers = nn.ModuleList(Layer(architecture, layer, context) for layer in schemes.layers)
        self.head = make_linear(vocabulary, hidden, schemes.head)
        self.norm = RMSNorm(blocks(schemes.head, hidden), architecture.rms_norm_eps)
        self.cos = nn.Parameter(torch.empty(context, architecture.head_dim), requires_grad=False)
        self.sin = nn.Parameter(torch.empty(context, architecture.head_dim), requires_grad=False)
        self.rotated: Tensor
        # Of the heads of queries, keys and values, values are not. So the three are cut apart after RoPE.
        heads = [1.0] * (architecture.heads + architecture.kv_heads) + [0.0] * architecture.kv_heads
        self.register_buffer("rotated", torch.tensor(heads).view(1, 1, -1, 1), persistent=False)

    def forward(self, tokens: Tensor, input_pos: Tensor) -> Tensor:
        """Logits [1, vocabulary] of the last of `tokens` [1, N], whose first one has the position `input_pos` [1].

        The cache holds what came before that; what it holds from there on is overwritten.
        """
        n, position = tokens.shape[1], input_pos.item()
        assert isinstance(position, int | torch.SymInt)
        for fact in (position >= 0, position + n <= self.context):
            torch._check(fact)  # type: ignore[no-untyped-call]
        cos, sin = (table.narrow(0, position, n)[None, :, None] for table in (self.cos, self.sin))
        cos, sin = (cos - 1.0) * self.rotated + 1.0, sin * self.rotated
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, position, cos, sin)
        last = x.select(1, -1)[None]
        return self.head(self.norm(last)).view(1, -1)
