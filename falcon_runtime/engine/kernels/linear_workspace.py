"""What the steps of the products tell each other, and the memory that they work in."""

import numpy as np

from ...models.architecture import MAX_TOKENS
from ...models.recipes import BLOCK, GROUP
from .abi import MAX_THREADS
from .workspace import ADDRESS, Workspace

CHUNK = 64
"""Blocks of a row that a thread quantizes at a time."""
SERIAL = 2 * CHUNK
"""Up to so many blocks in all, waking the other threads takes longer than they save."""
UNIT_BYTES = 256 * 1024
"""Of weights that a thread multiplies with all rows before it takes the next: they should stay in its cache."""
UNITS = 16
"""Into which a weight is divided at least."""
OUTLIER = 3
"""A block of normed inputs is taken twice if its largest number is so many times the mean of those of all blocks."""
PLAIN, NORMED, GATED = range(3)
NORM_ARGUMENTS, ADD_ARGUMENTS = 8, 5
"""Of norm_linear and of the other two, the result being given twice."""
BAND = 8
"""Rows that are multiplied together."""
LEAST = 2.0**-90
"""Groups whose inputs are no larger count as zeros: so no scale is too small for a float."""
FACTORS = 8
"""Bytes that a block of inputs has beside its 8-bit numbers: how many powers of two its scale is above the group's
smallest one, as an addend to a float's bits, and what their sum adds to every output: with offsets their own sum times
that power, a float32, and else an int32, that of the numbers times -`Scheme.zero`."""
ROW = BLOCK + FACTORS
"""Bytes of a block of inputs for each row."""
SCRATCH = CHUNK * (BLOCK + 1)
"""Floats that a thread has for itself: the inputs of a chunk, and the largest magnitudes of its blocks."""
MAX_SCHEMES = 8

SCHEME = np.dtype(
    [("block_bytes", np.int64), ("head_bytes", np.int64), ("bits", np.int64), ("zero", np.int64), ("multiply", ADDRESS)]
)
"""One of `recipes.Scheme`, and the address of the second step for it."""
WORKSPACE = np.dtype(
    [
        # Of this call: addresses of float32 [rows, inputs], [inputs], [rows, outputs] twice, and of the packed weight
        # [tiles, blocks, block_bytes].
        *((name, ADDRESS) for name in ("x", "norm", "residual", "out", "weight")),
        ("eps", np.float64),
        *((name, np.int64) for name in ("kind", "precise", "zero", "rows", "blocks", "groups", "tiles", "outputs")),
        ("unit", np.int64),  # Tiles that a thread takes at a time.
        # Memory. Band after band, the inputs, [2, blocks] of int8 [rows, 32] and factors [rows], the second half of
        # them for blocks that are taken twice; and the smallest scales that groups may have, float32 [groups, rows].
        # Which blocks are taken twice, uint8 [blocks]; the order in which blocks are multiplied, int64 [pairs, 2];
        # where in it groups begin, and the last one ends, int64 [groups + 1]; and float32 [MAX_THREADS, SCRATCH].
        *((name, ADDRESS) for name in ("inputs", "scales", "twice", "order", "bounds", "scratch")),
        ("most_blocks", np.int64),  # That there is room for.
        ("schemes", ADDRESS),  # SCHEME [scheme_count].
        ("scheme_count", np.int64),
        *((name, ADDRESS) for name in ("pool", "parallelize", "parallelize_with_thread", "quantize")),
    ]
)


def groups_of(blocks: int) -> int:
    return (blocks + GROUP - 1) // GROUP


def make_room(workspace: Workspace, blocks: int) -> None:
    """Allocates the memory for rows of up to so many blocks."""
    workspace.allocate("inputs", (MAX_TOKENS, 2, blocks, ROW), np.int8)
    workspace.allocate("scales", (MAX_TOKENS, groups_of(blocks)), np.float32)
    workspace.allocate("twice", (blocks,), np.uint8)
    workspace.allocate("order", (2 * blocks, 2), np.int64)
    workspace.allocate("bounds", (groups_of(blocks) + 1,), np.int64)
    workspace.allocate("scratch", (MAX_THREADS, SCRATCH), np.float32)
    workspace.set(most_blocks=blocks)
