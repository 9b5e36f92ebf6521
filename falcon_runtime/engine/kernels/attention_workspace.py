"""What the steps of attention tell each other, and the memory that they work in."""

from dataclasses import dataclass

import numpy as np

from ...models.architecture import CACHE_BLOCK, MAX_TOKENS, head_bytes
from .abi import MAX_THREADS
from .workspace import ADDRESS, Workspace

KEYS = CACHE_BLOCK
"""Keys whose scores are computed at a time."""
ROWS = 8
"""Rows of one sequence that are computed together: each key is read once for all of them."""
PIECE = 256
"""Keys that a thread takes at a time where rows are few, at least."""
PIECES = 16
"""Into which a past is divided at most."""
FEW = 16
"""Up to so many rows, a past is divided into pieces."""
MAX_KERNELS = 16
RUN = np.dtype([(name, np.int64) for name in ("row", "rows", "sequence", "position")])
"""Rows of one sequence that follow each other, at most ROWS: the first one, how many, and its sequence and position."""
WORKSPACE = np.dtype(
    [
        # Of this call: addresses of float32 [rows, heads + 2 * kv, size], int64 [rows] twice, float32 [context, size]
        # twice, the KV cache, and float32 [rows, heads * size].
        *((name, ADDRESS) for name in ("qkv", "positions", "sequences", "cos", "sin", "cache", "out")),
        *((name, np.int64) for name in ("rows", "capacity", "runs", "pieces", "piece_size")),
        # Memory: RUN [MAX_TOKENS]; of the queries after RoPE, float32 [kv, MAX_TOKENS, queries, size]; of each thread
        # the weights [ROWS * queries, KEYS], the weighted sums of values [ROWS * queries, size], and their running
        # maximum and sum of weights [ROWS * queries]; the same of each piece, [PIECES, FEW, heads, size or nothing].
        *((name, ADDRESS) for name in ("run", "rotated", "weights", "sums", "tops", "totals")),
        *((name, ADDRESS) for name in ("piece_sums", "piece_tops", "piece_totals")),
        *((name, ADDRESS) for name in ("pool", "parallelize", "parallelize_with_thread")),
        *((name, ADDRESS) for name in ("rotate", "attend", "merge")),
    ]
)
KERNEL = np.dtype(
    [*((name, np.int64) for name in ("heads", "kv", "size", "item")), ("kernel", ADDRESS), ("workspace", ADDRESS)]
)
CACHE = np.dtype([("address", ADDRESS), *((name, np.int64) for name in ("slots", "heads", "tokens", "bytes"))])
"""A KV cache: of each slot the keys and the values of all heads, `heads` times so many tokens of so many bytes each."""
TABLE = np.dtype([("kernels", ADDRESS), ("count", np.int64), ("caches", ADDRESS), ("noted", np.int64)])
"""The workspace of `attention`: KERNEL [count], for the heads of all models of the process; and CACHE [noted], what it
was called with since `noted` was set to 0, up to MAX_LAYERS of them."""


@dataclass(frozen=True)
class Heads:
    """What a kernel is compiled for."""

    queries: int
    """Query heads for each key-value head."""
    kv: int
    size: int
    cache_bits: int
    """16 or 32: of the floats in the cache; 8: of integers, with a scale for each token."""

    @property
    def all(self) -> int:
        return self.queries * self.kv

    @property
    def item(self) -> int:
        """Bytes of a number in the cache."""
        return self.cache_bits // 8

    @property
    def scaled(self) -> bool:
        """Whether the cache has scales."""
        return self.cache_bits == 8

    @property
    def bytes(self) -> int:
        """Of a token's key or value in the cache."""
        return head_bytes(self.size, self.cache_bits)

    @property
    def scales(self) -> int:
        """Where the scales of KEYS tokens lie: after their numbers."""
        return KEYS * self.size * self.item

    @property
    def stored(self) -> type[np.int8 | np.uint16 | np.float32]:
        """The type of the cache as numba has it."""
        types: dict[int, type[np.int8 | np.uint16 | np.float32]] = {8: np.int8, 16: np.uint16, 32: np.float32}
        return types[self.cache_bits]


def make_room(workspace: Workspace, heads: Heads) -> None:
    """Allocates the memory."""
    queries, size, most = heads.queries, heads.size, ROWS * heads.queries
    workspace.allocate("run", (MAX_TOKENS,), RUN)
    workspace.allocate("rotated", (heads.kv, MAX_TOKENS, queries, size), np.float32)
    workspace.allocate("weights", (MAX_THREADS, most, KEYS), np.float32)
    workspace.allocate("sums", (MAX_THREADS, most, size), np.float32)
    for field in ("tops", "totals"):
        workspace.allocate(field, (MAX_THREADS, most), np.float32)
        workspace.allocate(f"piece_{field}", (PIECES, FEW, heads.all), np.float32)
    workspace.allocate("piece_sums", (PIECES, FEW, heads.all, size), np.float32)
