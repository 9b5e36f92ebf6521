"""The shape of a Llama, and what follows from it."""

from dataclasses import dataclass

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
    rms_norm_eps: float
    tied: bool = False
    """Whether the output layer is the embedding."""

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Outputs and inputs of each linear of a layer; query, key and value are one, gate and up another."""
        return {
            "qkv": ((self.heads + 2 * self.kv_heads) * self.head_dim, self.hidden),
            "out": (self.hidden, self.heads * self.head_dim),
            "gate_up": (2 * self.intermediate, self.hidden),
            "down": (self.hidden, self.intermediate),
        }

    @property
    def norms(self) -> int:
        """Weights of all norms."""
        return (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        linear = self.layers * sum(outputs * inputs for outputs, inputs in self.linear.values())
        return linear + self.norms + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def kv_cache_bytes(self, context: int, slots: int = 1) -> int:
        """Of keys and values in float32, for `context` tokens in each of `slots` sequences."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 4 * context * slots

    def memory_bytes(self, program_bytes: int, context: int, slots: int = 1) -> int:
        """About what the engine needs to run a program of `program_bytes`, all of which is read into memory."""
        return program_bytes + self.kv_cache_bytes(context, slots) + PROCESS_BYTES
