"""`embedding` of convert/traced/operators.py: rows of a packed table, as float32.

Its workspace is that of the products, of which it uses the schemes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import carray, cfunc, njit

from ...models.recipes import BLOCK, QUADS, TILE
from .arithmetic import F, from_half
from .linear import scheme_of
from .linear_inputs import workspace_at
from .linear_workspace import MAX_SCHEMES, SCHEME
from .passed import KERNEL_SIGNATURE, data_of, fail, pointer, set_rows, size_of, tensor_at


@njit
def _unpack(scheme: Any, at: Any, output: Any, numbers: Any) -> None:
    """The 32 numbers that one output has in the block at an address, which `recipes.Scheme` describes."""
    floats = carray(pointer(at), 2 * TILE, np.uint16)
    stored = carray(pointer(at + scheme.head_bytes), scheme.block_bytes - scheme.head_bytes, np.uint8)
    scale = from_half(floats[output])
    offset = F(0) if scheme.zero else from_half(floats[TILE + output])
    for i in range(BLOCK):
        quad, place = i // 4, 4 * output + i % 4
        if scheme.bits == 8:
            q = np.int32(stored[4 * TILE * quad + place])
        else:
            q = np.int32(stored[4 * TILE * (quad // 2) + place]) >> (4 * (quad % 2)) & 15
        if scheme.bits == 6:
            high = np.int32(stored[4 * TILE * (QUADS // 2 + quad // 4) + place]) >> (2 * (quad % 4)) & 3
            q |= high << 4
        numbers[i] = F(q - scheme.zero) * scale + offset


def embedding() -> Mapping[str, Any]:
    @cfunc(KERNEL_SIGNATURE)
    def kernel(address: Any, context: Any, arguments: Any, count: Any) -> None:
        """Arguments: tokens int64 [1, rows], weight [tiles, blocks, block_bytes], the result [1, rows, 32 * blocks]."""
        w = workspace_at(address)
        weight, out = tensor_at(arguments, 1), tensor_at(arguments, 2)
        rows, tiles, blocks = size_of(tensor_at(arguments, 0), 1), size_of(weight, 0), size_of(weight, 1)
        index = scheme_of(w, weight)
        if index < 0:
            fail(context)
            return
        scheme = carray(pointer(w.schemes), MAX_SCHEMES, SCHEME)[index]
        set_rows(out, rows)
        tokens = carray(pointer(data_of(tensor_at(arguments, 0))), rows, np.int64)
        result = carray(pointer(data_of(out)), (rows, blocks, BLOCK), np.float32)
        for row in range(rows):
            tile, output = tokens[row] // TILE, tokens[row] % TILE
            if not 0 <= tile < tiles:
                fail(context)
                return
            for block in range(blocks):
                at = data_of(weight) + (tile * blocks + block) * scheme.block_bytes
                _unpack(scheme, at, output, result[row, block])

    return {"embedding": kernel}
