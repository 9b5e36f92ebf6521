"""The Llama that is exported: one ragged forward over several sequences, each with its own KV cache.

It computes what `transformers.LlamaForCausalLM` computes, arranged for a small graph: query, key and value are one
projection, gate and up another, RoPE is one multiplication by tables, the KV caches are buffers written in place.
"""

import torch
import torch.nn.functional as F
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  (registers torch.ops.llama.*)
from torch import Tensor, nn

from ..architecture import Architecture
from ..recipes import LayerSchemes, Schemes
from .modules import make_embedding, make_linear

Span = tuple[int, int, int]
"""Where a slot's new tokens lie: offset in the batch, how many, and position of the first in its sequence."""


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
    """Rows of `qkv` are grouped by key-value head: the queries that share it, its key, its value.

    So are the activations and the caches, [kv_heads, tokens, ..., head_dim], the key-value heads being `custom_sdpa`'s
    batch: what one head reads of a cache is one piece of memory, which takes little more than half the time of a row
    here and there.
    """

    def __init__(self, architecture: Architecture, schemes: LayerSchemes, slots: int, context: int):
        super().__init__()
        self.kv_heads, self.head_dim = architecture.kv_heads, architecture.head_dim
        self.queries = architecture.heads // self.kv_heads
        self.qkv = make_linear(*architecture.linear["qkv"], schemes.qkv)
        self.out = make_linear(*architecture.linear["out"], schemes.out)
        self.out_shape = schemes.out.blocks(architecture.heads * self.head_dim)
        for slot in range(slots):
            for cache in "kv":
                empty = torch.zeros(self.kv_heads, context, 1, self.head_dim)
                self.register_buffer(f"{cache}{slot}", empty, persistent=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, spans: list[Span]) -> Tensor:
        n, half = x.shape[1], self.head_dim // 2
        groups = self.qkv(x).view(n, self.kv_heads, self.queries + 2, self.head_dim).permute(1, 0, 2, 3)
        qk, v = groups.split([self.queries + 1, 1], 2)
        left, right = qk.split([half, half], 3)
        qk = qk * cos + torch.cat([right, left], 3) * sin
        q, k = qk.split([self.queries, 1], 2)
        if len(spans) == 1:  # Nothing to cut out or to put together: four copies less a layer.
            attended = self.attend(0, q, k, v, spans[0][2])
        else:
            parts = []
            for slot, (offset, count, start) in enumerate(spans):
                new_q, new_k, new_v = (rows.narrow(1, offset, count) for rows in (q, k, v))
                parts.append(self.attend(slot, new_q, new_k, new_v, start))
            attended = torch.cat(parts, 1)
        return self.out(attended.permute(1, 0, 2, 3).reshape(1, n, *self.out_shape))

    def attend(self, slot: int, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """Causal attention of one slot's new queries [kv_heads, count, queries, head_dim]; its cache is extended in
        place."""
        k_cache, v_cache = getattr(self, f"k{slot}"), getattr(self, f"v{slot}")
        torch.ops.llama.update_cache(k, k_cache, start)
        torch.ops.llama.update_cache(v, v_cache, start)
        attended: Tensor = torch.ops.llama.custom_sdpa(q, k_cache, v_cache, start, None, 0.0, True)
        return attended


class Layer(nn.Module):
    def __init__(self, architecture: Architecture, schemes: LayerSchemes, slots: int, context: int):
        super().__init__()
        hidden, eps = architecture.hidden, architecture.rms_norm_eps
        self.attention_norm = RMSNorm(schemes.qkv.blocks(hidden), eps)
        self.attention = Attention(architecture, schemes, slots, context)
        self.mlp_norm = RMSNorm(schemes.gate_up.blocks(hidden), eps)
        self.gate_up = make_linear(*architecture.linear["gate_up"], schemes.gate_up)
        self.down = make_linear(*architecture.linear["down"], schemes.down)
        self.down_shape = schemes.down.blocks(architecture.intermediate)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, spans: list[Span]) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, spans)
        first, *rest = self.down_shape
        gate, up = self.gate_up(self.mlp_norm(x)).view(1, x.shape[1], 2 * first, *rest).split(first, 2)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    """A Llama whose forward takes new tokens of every slot at once and gives the logits of chosen rows.

    Weights, and RoPE's tables `cos` and `sin` [context, head_dim], are allocated and not set.
    """

    def __init__(self, architecture: Architecture, schemes: Schemes, slots: int, context: int):
        """It has as many layers as `schemes`."""
        super().__init__()
        self.slots, self.context = slots, context
        vocabulary, hidden = architecture.vocabulary, architecture.hidden
        self.embed = make_embedding(vocabulary, hidden, schemes.embedding)
        self.layers = nn.ModuleList(Layer(architecture, layer, slots, context) for layer in schemes.layers)
        self.head = make_linear(vocabulary, hidden, schemes.head)
        self.norm = RMSNorm(schemes.head.blocks(hidden), architecture.rms_norm_eps)
        self.cos = nn.Parameter(torch.empty(context, architecture.head_dim), requires_grad=False)
        self.sin = nn.Parameter(torch.empty(context, architecture.head_dim), requires_grad=False)

    def forward(self, tokens: Tensor, positions: Tensor, starts: Tensor, counts: Tensor, rows: Tensor) -> Tensor:
        """Logits [1, R, vocabulary] of the batch rows `rows` [R].

        `tokens` [1, N] are the slots' new tokens one slot after the other, `positions` [N] their positions, `counts`
        [SLOTS] how many each slot has (at least 1, summing to N) and `starts` [SLOTS] the position of its first.
        """
        n, offset, spans = tokens.shape[1], 0, list[Span]()
        for slot in range(self.slots):
            start: int = starts[slot].item()  # type: ignore[assignment]  # A SymInt while tracing; int() would fix it.
            # The last slot has what the others leave, so that one slot alone has all, known by its shape.
            count: int = counts[slot].item() if slot < self.slots - 1 else n - offset  # type: ignore[assignment]
            for fact in (count >= 1, count <= n, start >= 0, start + count <= self.context, offset + count <= n):
                torch._check(fact)  # type: ignore[no-untyped-call]
            spans.append((offset, count, start))
            offset = offset + count
        cos, sin = (table.index_select(0, positions)[None, :, None] for table in (self.cos, self.sin))
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin, spans)
        return self.head(self.norm(x.index_select(1, rows)))
