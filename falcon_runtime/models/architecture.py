"""The shape of a Llama, and what follows from it."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

MAX_LAYERS = 1000
MAX_WIDTH = 1 << 20
"""Of hidden states, and within an MLP."""
MAX_HEADS = 1 << 12
MAX_HEAD_DIM = 1 << 12
MAX_VOCABULARY = 1 << 22
MAX_CONTEXT = 1 << 24
"""More of any of these is a damaged file: real models have at most a tenth."""

PROCESS_BYTES = 700_000_000
"""What the engine takes beside weights and KV cache: Python, ExecuTorch, the compiler at a first start, and the
activations. A good deal more than a start with kept kernels takes."""
LARGE = 1_000_000_000
"""Parameters from which on a forward of few rows takes as long as its weights take to be read."""
SLOTS = 8
"""How many sequences a model keeps at once, unless another number is asked for: an audience that is served together."""
MAX_TOKENS = 256
"""New tokens in one forward, over all slots. More gives no more speed, and the activations are planned for it."""
MAX_ROWS = 64
"""Rows of logits in one forward; at Falcon3's vocabulary they are planned as 34 MB."""
CACHE_BLOCK = 64
"""Tokens that a KV cache has room for are a multiple of this: so many are read at a time."""
SCALE_BYTES = 4
"""Of the scale of a key or a value that is kept in integers."""
MEMORY_SHARE = 0.8
"""How much of a machine's memory a model may take: the page, its server and the system need some too."""


@dataclass(frozen=True)
class Architecture:
    """The bounds are checked where one is read from a file, as a part of a manifest."""

    layers: Annotated[int, Field(gt=0, le=MAX_LAYERS)]
    hidden: Annotated[int, Field(gt=0, le=MAX_WIDTH)]
    heads: Annotated[int, Field(gt=0, le=MAX_HEADS)]
    kv_heads: Annotated[int, Field(gt=0, le=MAX_HEADS)]
    head_dim: Annotated[int, Field(gt=0, le=MAX_HEAD_DIM, multiple_of=2)]
    intermediate: Annotated[int, Field(gt=0, le=MAX_WIDTH)]
    vocabulary: Annotated[int, Field(gt=0, le=MAX_VOCABULARY)]
    rms_norm_eps: Annotated[float, Field(gt=0, lt=1)]
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
    def products(self) -> int:
        """Of a token with the weights of all layers, without the output layer."""
        return self.layers * sum(outputs * inputs for outputs, inputs in self.linear.values())

    @property
    def norms(self) -> int:
        """Weights of all norms."""
        return (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        return self.products + self.norms + self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def large(self) -> bool:
        return self.parameters >= LARGE

    def kv_cache_bytes(self, context: int, slots: int = 1, bits: int = 16) -> int:
        """Of keys and values in numbers of `bits` bits, for `context` tokens in each of `slots` sequences."""
        return 2 * self.layers * self.kv_heads * head_bytes(self.head_dim, bits) * cache_tokens(context) * slots

    def memory_bytes(self, program_bytes: int, context: int, slots: int = 1, bits: int = 16) -> int:
        """About what the engine needs to run a program of `program_bytes`, all of which is read into memory."""
        return program_bytes + self.kv_cache_bytes(context, slots, bits) + PROCESS_BYTES

    def fitting_slots(self, program_bytes: int, context: int, memory: int, bits: int = 16) -> int:
        """How many sequences a program of `program_bytes` should keep at once on a machine with `memory` bytes.

        An idle slot takes no time, but there has to be memory for its KV cache.
        """
        left = MEMORY_SHARE * memory - self.memory_bytes(program_bytes, context, 0)
        return max(1, min(SLOTS, int(left / self.kv_cache_bytes(context, 1, bits))))


def head_bytes(head_dim: int, bits: int) -> int:
    """Of the key or the value of a token in a KV cache, for one head: 8 bits are integers with a float32 as scale."""
    return head_dim * bits // 8 + (SCALE_BYTES if bits == 8 else 0)


def cache_tokens(context: int) -> int:
    """Tokens that the KV cache of a sequence of `context` tokens has room for."""
    return -(-context // CACHE_BLOCK) * CACHE_BLOCK
