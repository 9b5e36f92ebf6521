"""The shape of a Llama, and what follows from it: how large it is to download, on disk and in memory."""

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatch

from .manifest import RecipeName

STORED_BITS: dict[RecipeName, tuple[float, float, float]] = {
    "fp32": (32, 32, 32),
    "int8": (8, 8, 8 + 32 / 32),
    "int4": (4 + 16 / 32, 8, 8 + 32 / 32),
}
"""Bits a weight of a linear layer, of the output layer and of the embedding takes. Groups of 32 share a scale, of 16
bits at 4 bits and else of 32; a scale per output channel is shared by thousands and is not counted."""
PROCESS_BYTES = 700_000_000
"""What the engine takes beside weights and KV cache: Python, torch and ExecuTorch, and the activations."""


@dataclass(frozen=True)
class Architecture:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool = False
    """Whether the output layer is the embedding."""

    @property
    def linear(self) -> dict[str, int]:
        """Weights in each part of a layer, named as in `CatalogEntry.wide`."""
        return {
            "qkv": self.hidden * (self.heads + 2 * self.kv_heads) * self.head_dim,
            "out": self.heads * self.head_dim * self.hidden,
            "gate_up": 2 * self.hidden * self.intermediate,
            "down": self.intermediate * self.hidden,
        }

    @property
    def embedding(self) -> int:
        """Weights in the embedding, and as many in the output layer."""
        return self.vocabulary * self.hidden

    @property
    def norms(self) -> int:
        return (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * sum(self.linear.values()) + self.norms + self.embedding * (1 if self.tied else 2)

    def program_bytes(self, recipe: RecipeName, wide: Collection[str] = ()) -> int:
        """About the size of the converted model's program, to a few percent; `wide` is as in `CatalogEntry`."""
        linear_bits, head_bits, embedding_bits = STORED_BITS[recipe]
        bits = self.norms * 32 + self.embedding * (head_bits + embedding_bits)
        for layer in range(self.layers):
            for part, weights in self.linear.items():
                is_wide = any(fnmatch(f"{layer}.{part}", pattern) for pattern in wide)
                bits += weights * (32 if is_wide else linear_bits)
        return round(bits / 8)

    def kv_cache_bytes(self, context: int, slots: int = 1) -> int:
        """Of keys and values in float32, for `context` tokens in each of `slots` sequences."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 4 * context * slots

    def memory_bytes(self, program_bytes: int, context: int, slots: int = 1) -> int:
        """About what the engine needs to run a program of `program_bytes`, all of which is read into memory."""
        return program_bytes + self.kv_cache_bytes(context, slots) + PROCESS_BYTES
