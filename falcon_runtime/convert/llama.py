"""The Llama that is exported: one ragged forward over several sequences, each with its own KV cache.

It computes what `transformers.LlamaForCausalLM` computes, arranged for a small graph: query, key and value are one
projection, gate and up another, RoPE is one multiplication by tables, the KV caches are buffers written in place.
"""

import torch
import torch.nn.functional as F
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  (registers torch.ops.llama.*)
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from .modules import make_embedding, make_linear
from .schemes import LayerSchemes, Schemes

Span = tuple[int, int, int]
"""Where a slot's new tokens lie: offset in the batch, how many, and position of the first in its sequence."""


def head_dim(config: LlamaConfig) -> int:
    return config.head_dim or config.hidden_size // config.num_attention_heads


def rope_tables(config: LlamaConfig, context: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [context, head_dim] for positions from 0; the sign of `rotate_half` is in the sines.

    They are transformers' own, so that every kind of RoPE scaling it knows is right here too.
    """
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(context)[None])
    half = torch.ones(head_dim(config) // 2)
    return cos[0], sin[0] * torch.cat([-half, half])


class RMSNorm(nn.Module):
    """Gives [1, N, size], or [1, N, blocks, block] to a linear layer that rotates blocks: in its shape from the start,
    so that norm and rotation are one piece."""

    def __init__(self, size: int, eps: float, block: int):
        super().__init__()
        self.block, self.eps = block, eps
        shape = (size // block, block) if block > 1 else (size,)
        self.weight = nn.Parameter(torch.ones(shape), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.pow(2).mean(-1, keepdim=True)
        if self.block > 1:
            x, mean = x.view(1, x.shape[1], -1, self.block), mean[..., None]
        return x * torch.rsqrt(mean + self.eps) * self.weight


class Attention(nn.Module):
    def __init__(self, config: LlamaConfig, schemes: LayerSchemes, slots: int, context: int):
        super().__init__()
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads or self.heads
        self.head_dim = head_dim(config)
        self.qkv = make_linear(config.hidden_size, (self.heads + 2 * self.kv_heads) * self.head_dim, schemes.qkv)
        self.out = make_linear(self.heads * self.head_dim, config.hidden_size, schemes.out)
        for slot in range(slots):
            for cache in "kv":
                empty = torch.zeros(1, context, self.kv_heads, self.head_dim)
                self.register_buffer(f"{cache}{slot}", empty, persistent=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, spans: list[Span]) -> Tensor:
        n, half = x.shape[1], self.head_dim // 2
        qkv = self.qkv(x).view(1, n, self.heads + 2 * self.kv_heads, self.head_dim)
        qk, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], 2)
        left, right = qk.split([half, half], 3)
        qk = qk * cos + torch.cat([right, left], 3) * sin
        q, k = qk.split([self.heads, self.kv_heads], 2)
        if len(spans) == 1:  # Nothing to cut out or to put together: four copies less a layer.
            attended = self.attend(0, q, k, v, spans[0][2])
        else:
            parts = []
            for slot, (offset, count, start) in enumerate(spans):
                new_q, new_k, new_v = (rows.narrow(1, offset, count) for rows in (q, k, v))
                parts.append(self.attend(slot, new_q, new_k, new_v, start))
            attended = torch.cat(parts, 1)
        return self.out(attended.view(1, n, self.heads * self.head_dim))

    def attend(self, slot: int, q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        """Causal attention of one slot's new rows [1, count, heads, head_dim]; its cache is extended in place."""
        k_cache, v_cache = getattr(self, f"k{slot}"), getattr(self, f"v{slot}")
        torch.ops.llama.update_cache(k, k_cache, start)
        torch.ops.llama.update_cache(v, v_cache, start)
        attended: Tensor = torch.ops.llama.custom_sdpa(q, k_cache, v_cache, start, None, 0.0, True)
        return attended


class Layer(nn.Module):
    def __init__(self, config: LlamaConfig, schemes: LayerSchemes, slots: int, context: int):
        super().__init__()
        self.hidden = config.intermediate_size
        self.attention = Attention(config, schemes, slots, context)
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, self.attention.qkv.block)
        self.gate_up = make_linear(config.hidden_size, 2 * self.hidden, schemes.gate_up)
        self.mlp_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, self.gate_up.block)
        self.down = make_linear(self.hidden, config.hidden_size, schemes.down)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, spans: list[Span]) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, spans)
        gate_up = self.gate_up(self.mlp_norm(x))
        if (block := self.down.block) > 1:
            gate, up = gate_up.view(1, x.shape[1], -1, block).split(self.hidden // block, 2)
        else:
            gate, up = gate_up.split(self.hidden, 2)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    """A Llama whose forward takes new tokens of every slot at once and gives the logits of chosen rows.

    Weights are allocated and not set.
    """

    def __init__(self, config: LlamaConfig, schemes: Schemes, slots: int, context: int):
        """It has as many layers as `schemes`."""
        super().__init__()
        self.slots, self.context = slots, context
        self.embed = make_embedding(config.vocab_size, config.hidden_size, schemes.embedding)
        self.layers = nn.ModuleList(Layer(config, layer, slots, context) for layer in schemes.layers)
        self.head = make_linear(config.hidden_size, config.vocab_size, schemes.head)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, self.head.block)
        self.cos: Tensor
        self.sin: Tensor
        cos, sin = rope_tables(config, context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

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
