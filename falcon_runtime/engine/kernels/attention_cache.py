"""The KV cache: where keys and values lie in it, and how those of a token get there.

Each slot has the keys of all heads, and then the values. Those of a head come in blocks of KEYS tokens: keys 16 by 16,
[KEYS / 16, size, 16], and values one after the other, [KEYS, size]. Where they are integers of 8 bits, a key or a value
is these times a scale of its own (its largest magnitude / 127), and the scales, float32 [KEYS], end the block.
"""

from typing import Any

import numpy as np
from numba import carray, njit

from .arithmetic import F, higher, to_half
from .attention_workspace import KEYS, Heads
from .passed import pointer
from .vectors import LANES


def make_place_of(heads: Heads) -> Any:
    kv, token_bytes = heads.kv, heads.bytes

    @njit
    def place_of(w: Any, sequence: Any, which: Any, head: Any) -> Any:
        """Address of the keys (0) or the values (1) of a head."""
        return w.cache + ((sequence * 2 + which) * kv + head) * w.capacity * token_bytes

    return place_of


def make_keep(heads: Heads) -> Any:
    """A function for compiled code, keep(w, sequence, position, qkv, cos, sin): puts the keys of a token, after RoPE,
    and its values into the cache; `qkv` [heads + 2 * kv, size] are its projections, `cos` and `sin` [size] those of its
    position."""
    all_heads, kv, bytes_before = heads.all, heads.kv, KEYS * heads.bytes
    place_of, put_key, put_value = make_place_of(heads), *(_integers(heads) if heads.scaled else _floats(heads))

    @njit(fastmath=True)
    def keep(w: Any, sequence: Any, position: Any, qkv: Any, cos: Any, sin: Any) -> None:
        block, token = position // KEYS, position % KEYS
        for head in range(kv):
            key, value = qkv[all_heads + head], qkv[all_heads + kv + head]
            put_key(place_of(w, sequence, 0, head) + block * bytes_before, token, key, cos, sin)
            put_value(place_of(w, sequence, 1, head) + block * bytes_before, token, value)

    return keep


def make_turned(heads: Heads) -> tuple[Any, Any]:
    """Functions for compiled code, of (numbers, d, cos, sin): after RoPE, number d of the first half of a query or a
    key, whose `numbers` are [size], and that of the second half."""
    middle = heads.size // 2

    @njit(fastmath=True)
    def first(numbers: Any, d: Any, cos: Any, sin: Any) -> Any:
        return F(numbers[d] * cos[d] + numbers[middle + d] * sin[d])

    @njit(fastmath=True)
    def second(numbers: Any, d: Any, cos: Any, sin: Any) -> Any:
        return F(numbers[middle + d] * cos[middle + d] + numbers[d] * sin[middle + d])

    return first, second


@njit
def _same(number: Any) -> Any:
    return number


def _floats(heads: Heads) -> tuple[Any, Any]:
    """Functions that put a key and a value into their blocks."""
    size, stored, middle, (first, second) = heads.size, heads.stored, heads.size // 2, make_turned(heads)
    narrow = to_half if heads.cache_bits == 16 else _same

    @njit(fastmath=True)
    def put_key(block: Any, token: Any, key: Any, cos: Any, sin: Any) -> None:
        keys = carray(pointer(block), (KEYS // LANES, size, LANES), stored)[token // LANES]
        lane = token % LANES
        for d in range(middle):
            keys[d, lane] = narrow(first(key, d, cos, sin))
            keys[middle + d, lane] = narrow(second(key, d, cos, sin))

    @njit(fastmath=True)
    def put_value(block: Any, token: Any, value: Any) -> None:
        values = carray(pointer(block), (KEYS, size), stored)[token]
        for d in range(size):
            values[d] = narrow(value[d])

    return put_key, put_value


def _integers(heads: Heads) -> tuple[Any, Any]:
    """The same for integers."""
    size, middle, scales_after, (first, second) = heads.size, heads.size // 2, heads.scales, make_turned(heads)

    @njit
    def set_scale(block: Any, token: Any, top: Any) -> Any:
        """Notes the scale of numbers up to `top`; gives what they are to be multiplied by."""
        carray(pointer(block + scales_after), KEYS, np.float32)[token] = F(top / F(127))
        return F(F(127) / top) if top > F(0) else F(0)

    @njit(fastmath=True)
    def put_key(block: Any, token: Any, key: Any, cos: Any, sin: Any) -> None:
        keys = carray(pointer(block), (KEYS // LANES, size, LANES), np.int8)[token // LANES]
        lane, top = token % LANES, F(0)
        for d in range(middle):
            top = higher(top, abs(first(key, d, cos, sin)))
            top = higher(top, abs(second(key, d, cos, sin)))
        inverse = set_scale(block, token, top)
        for d in range(middle):
            keys[d, lane] = np.int8(np.rint(first(key, d, cos, sin) * inverse))
            keys[middle + d, lane] = np.int8(np.rint(second(key, d, cos, sin) * inverse))

    @njit(fastmath=True)
    def put_value(block: Any, token: Any, value: Any) -> None:
        values, top = carray(pointer(block), (KEYS, size), np.int8)[token], F(0)
        for d in range(size):
            top = higher(top, F(abs(value[d])))
        inverse = set_scale(block, token, top)
        for d in range(size):
            values[d] = np.int8(np.rint(F(value[d] * inverse)))

    return put_key, put_value


def make_weigh(heads: Heads) -> Any:
    """A function for compiled code, weigh(weights, count, block, there): makes weights [count, KEYS] of values those of
    their integers, where the cache has such."""
    scaled, scales_after = heads.scaled, heads.scales

    @njit(fastmath=True)
    def weigh(weights: Any, count: Any, block: Any, there: Any) -> None:
        if scaled:
            scales = carray(pointer(block + scales_after), KEYS, np.float32)
            for i in range(count):
                for j in range(there):
                    weights[i, j] *= scales[j]

    return weigh
