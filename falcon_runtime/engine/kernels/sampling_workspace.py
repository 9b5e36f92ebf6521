"""What the passes over a vocabulary are told and tell each other, and the memory that they work in."""

import numpy as np

from .workspace import ADDRESS, Workspace

BLOCK = 128
"""Tokens whose largest score is known: where that is too small, none of them is looked at."""
BINS = 512
"""Of a histogram; its last one has all that is left."""
LANES = 8
"""Histograms that are filled by turns, so that equal tokens need not wait for each other's sums."""
MASK_BITS = 32
"""Tokens in a word of a mask."""

BIAS = np.dtype([("token", np.int64), ("value", np.float64)])
SEEN = np.dtype([("token", np.int64), ("count", np.int64)])
"""A token of the text, and how often the answer has it."""
OPTIONS = np.dtype(
    [
        *((name, np.float64) for name in ("temperature", "top_p", "min_p")),
        ("top_k", np.int64),
        *((name, np.float64) for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")),
        # Addresses of BIAS [biased] and SEEN [seen].
        *((name, ADDRESS) for name in ("bias", "text")),
        *((name, np.int64) for name in ("biased", "seen")),
    ]
)
"""Of one request."""
WORKSPACE = np.dtype(
    [
        # How many tokens there are, and blocks, the last of which is filled up with impossible ones.
        *((name, np.int64) for name in ("tokens", "blocks")),
        # Memory: of each token its score, its weight and a one, for counting, float32, and its bin uint16, all [blocks,
        # BLOCK]; indices int64 [blocks * BLOCK]; of each block its highest score float32 and the sum of its weights
        # float64 [blocks]; and float64 [LANES, BINS].
        *((name, ADDRESS) for name in ("scores", "weights", "ones", "bins", "order", "maxima", "sums", "histogram")),
    ]
)


def make_room(workspace: Workspace, tokens: int) -> None:
    """Allocates the memory for so many tokens."""
    blocks = -(-tokens // BLOCK)
    workspace.set(tokens=tokens, blocks=blocks)
    workspace.allocate("scores", (blocks, BLOCK), np.float32)
    workspace.allocate("weights", (blocks, BLOCK), np.float32)
    workspace.allocate("ones", (blocks, BLOCK), np.float32)[:] = 1
    workspace.allocate("bins", (blocks, BLOCK), np.uint16)
    workspace.allocate("order", (blocks * BLOCK,), np.int64)
    workspace.allocate("maxima", (blocks,), np.float32)
    workspace.allocate("sums", (blocks,), np.float64)
    workspace.allocate("histogram", (LANES, BINS), np.float64)
