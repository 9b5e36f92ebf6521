"""The attention kernel: the operator `falcon::attention`, compiled for this very processor when the engine starts.

ExecuTorch's own attention goes through the BLAS that torch brings, which takes SSE2 code on processors that are not
Intel's, and computes its exponentials one at a time: with 1,900 tokens of context it took two thirds of a step.
This one reads each key and value once for all the query heads and rows that share it, has the KV cache in half
precision, takes the rows of all sequences in one call and does RoPE on the way.

The algorithm is that of flash attention: over blocks of keys, with a running maximum and sum (Dao et al., 2022,
arXiv:2205.14135). Where few rows have a long past, several threads take a piece of it each (flash decoding).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from . import native
from .head import KEYS, make_scores, make_sums
from .native import (
    MAX_ROWS,
    MAX_THREADS,
    F,
    call_address,
    data_of,
    exp2,
    fail,
    pointer,
    set_rows,
    size_of,
    tensor_at,
    to_half,
    type_of,
    word_at,
)
from .vectors import LANES

ROWS = 8
"""Rows of one sequence that are computed together: each key is read once for all of them."""
PIECE = 256
"""Keys that a thread takes at a time where rows are few, at least."""
PIECES = 16
FEW = 16
"""Up to so many rows, a past is divided into pieces."""
# What the parts of a call tell each other: addresses of tensors' data, and numbers.
QKV, POSITIONS, SEQUENCES, COS, SIN, CACHE, COUNT, CAPACITY, OUT, PIECE_COUNT, PIECE_SIZE = range(11)
MAX_KERNELS = 16


@dataclass(frozen=True)
class Heads:
    """What a kernel is compiled for."""

    queries: int
    """Query heads for each key-value head."""
    kv: int
    size: int
    cache_bits: int
    """16 or 32: of the floats in the cache."""


@njit
def _same(number: Any) -> Any:
    return number


def _compile(heads: Heads) -> Any:
    """The kernel, and what must live as long as it: C functions and memory to work in."""
    queries, kv, size = heads.queries, heads.kv, heads.size
    all_heads, most = queries * kv, ROWS * queries
    scale = F(1 / math.log(2) / math.sqrt(size))  # So that what is left of the softmax are powers of 2.
    bits = heads.cache_bits
    kind, narrow = (np.uint16, to_half) if bits == 16 else (np.float32, _same)
    item, threads = np.dtype(kind).itemsize, MAX_THREADS

    # Memory to work in, at addresses that the code knows.
    call = np.zeros(11, np.int64)
    blocks = np.zeros((MAX_ROWS, 4), np.int64)  # First row, rows, sequence, position of the first row.
    rotated = np.zeros((kv, MAX_ROWS, queries, size), np.float32)
    scores = np.zeros((threads, most, KEYS), np.float32)
    sums = np.zeros((threads, most, size), np.float32)
    tops, totals = np.zeros((2, threads, most), np.float32)
    piece_sums = np.zeros((PIECES, FEW, all_heads, size), np.float32)
    piece_tops, piece_totals = np.zeros((2, PIECES, FEW, all_heads), np.float32)
    memory = (call, blocks, rotated, scores, sums, tops, totals, piece_sums, piece_tops, piece_totals)
    a_call, a_blocks, a_rotated, a_scores, a_sums, a_tops, a_totals, a_psums, a_ptops, a_ptotals = (
        array.ctypes.data for array in memory
    )

    score, add_values = make_scores(queries, size, bits), make_sums(queries, size, bits)

    @njit(fastmath=True)
    def attend(
        q: Any, rows: Any, position: Any, keys: Any, values: Any, first: Any, last: Any,
        scores_at: Any, sums_at: Any, tops: Any, totals: Any,
    ) -> None:  # fmt: skip
        """Of the queries at the address q [rows * queries, size], the first row of which is at `position`, over keys
        first to last: the weighted sums of values, and the maximum and the sum of the weights."""
        count = rows * queries
        scores = carray(pointer(scores_at), (most, KEYS), np.float32)
        sums = carray(pointer(sums_at), (most, size), np.float32)
        for i in range(count):
            tops[i], totals[i] = F(-1e30), F(0)  # fastmath knows no infinity.
            for d in range(size):
                sums[i, d] = F(0)
        for base in range(first, last, KEYS):
            there = min(KEYS, last - base)
            score(q, count, keys + base * size * item, there, scores_at)
            for i in range(count):
                seen = max(0, min(there, position + i // queries + 1 - base))
                top = tops[i]
                for j in range(seen):
                    top = max(top, scores[i, j])
                total = F(0)
                for j in range(seen):
                    weight = exp2(F(scores[i, j] - top))
                    scores[i, j] = weight
                    total += weight
                for j in range(seen, KEYS):
                    scores[i, j] = F(0)
                if top > tops[i]:
                    if totals[i] > F(0):
                        correction = exp2(F(tops[i] - top))
                        totals[i] *= correction
                        for d in range(size):
                            sums[i, d] *= correction
                    tops[i] = top
                totals[i] += total
            add_values(scores_at, count, values + base * size * item, there, sums_at)

    @njit
    def cache_of(call: Any, sequence: Any, which: Any, head: Any) -> Any:
        """Address of the keys (0) [capacity / 16, size, 16] or the values (1) [capacity, size] of a head."""
        return call[CACHE] + ((sequence * 2 + which) * kv + head) * call[CAPACITY] * size * item

    @cfunc(types.void(types.uint64, types.uint64), fastmath=True)
    def rotate(_: Any, row: Any) -> None:
        """RoPE of a row's queries and key; its key and value go into the cache."""
        call = carray(pointer(a_call), 11, np.int64)
        qkv = carray(pointer(call[QKV]), (call[COUNT], all_heads + 2 * kv, size), np.float32)
        position = carray(pointer(call[POSITIONS]), call[COUNT], np.int64)[row]
        sequence = carray(pointer(call[SEQUENCES]), call[COUNT], np.int64)[row]
        cos = carray(pointer(call[COS]), (position + 1, size), np.float32)
        sin = carray(pointer(call[SIN]), (position + 1, size), np.float32)
        rotated = carray(pointer(a_rotated), (kv, MAX_ROWS, queries, size), np.float32)
        middle = size // 2
        for head in range(all_heads):
            q = rotated[head // queries, row, head % queries]
            for d in range(middle):
                left, right = qkv[row, head, d], qkv[row, head, middle + d]
                q[d] = (left * cos[position, d] + right * sin[position, d]) * scale
                q[middle + d] = (right * cos[position, middle + d] + left * sin[position, middle + d]) * scale
        for head in range(kv):
            shape = call[CAPACITY] // LANES, size, LANES
            keys = carray(pointer(cache_of(call, sequence, 0, head)), shape, kind)[position // LANES]
            values = carray(pointer(cache_of(call, sequence, 1, head)), (call[CAPACITY], size), kind)[position]
            lane = position % LANES
            for d in range(middle):
                left, right = qkv[row, all_heads + head, d], qkv[row, all_heads + head, middle + d]
                keys[d, lane] = narrow(F(left * cos[position, d] + right * sin[position, d]))
                keys[middle + d, lane] = narrow(F(right * cos[position, middle + d] + left * sin[position, middle + d]))
            for d in range(size):
                values[d] = narrow(qkv[row, all_heads + kv + head, d])

    @cfunc(types.void(types.uint64, types.uint64, types.uint64), fastmath=True)
    def compute(_: Any, thread: Any, unit: Any) -> None:
        """A block of rows, for one key-value head and one piece of the past."""
        call = carray(pointer(a_call), 11, np.int64)
        pieces, piece_size = call[PIECE_COUNT], call[PIECE_SIZE]
        piece, head, block = unit % pieces, unit // pieces % kv, unit // pieces // kv
        mine = carray(pointer(a_blocks), (MAX_ROWS, 4), np.int64)[block]
        row, rows, sequence, position = mine[0], mine[1], mine[2], mine[3]
        count = rows * queries
        q = a_rotated + (head * MAX_ROWS + row) * queries * size * 4
        keys, values = cache_of(call, sequence, 0, head), cache_of(call, sequence, 1, head)
        mine_at = np.int64(thread) * most * 4
        sums = carray(pointer(a_sums), (threads, most, size), np.float32)[thread]
        tops = carray(pointer(a_tops), (threads, most), np.float32)[thread]
        totals = carray(pointer(a_totals), (threads, most), np.float32)[thread]
        end = position + rows
        first, last = min(piece * piece_size, end), min((piece + 1) * piece_size, end)
        scores_at, sums_at = a_scores + mine_at * KEYS, a_sums + mine_at * size
        attend(q, rows, position, keys, values, first, last, scores_at, sums_at, tops, totals)
        if pieces == 1:
            out = carray(pointer(call[OUT]), (call[COUNT], all_heads, size), np.float32)
            for i in range(count):
                target = out[row + i // queries, head * queries + i % queries]
                for d in range(size):
                    target[d] = sums[i, d] / totals[i]
        else:
            piece_sums = carray(pointer(a_psums), (PIECES, FEW, all_heads, size), np.float32)[piece]
            piece_tops = carray(pointer(a_ptops), (PIECES, FEW, all_heads), np.float32)[piece]
            piece_totals = carray(pointer(a_ptotals), (PIECES, FEW, all_heads), np.float32)[piece]
            for i in range(count):
                r, h = row + i // queries, head * queries + i % queries
                piece_tops[r, h], piece_totals[r, h] = tops[i], totals[i]
                for d in range(size):
                    piece_sums[r, h, d] = sums[i, d]

    @cfunc(types.void(types.uint64, types.uint64), fastmath=True)
    def merge(_: Any, row: Any) -> None:
        """A row's result from those of the pieces."""
        call = carray(pointer(a_call), 11, np.int64)
        piece_sums = carray(pointer(a_psums), (PIECES, FEW, all_heads, size), np.float32)
        piece_tops = carray(pointer(a_ptops), (PIECES, FEW, all_heads), np.float32)
        piece_totals = carray(pointer(a_ptotals), (PIECES, FEW, all_heads), np.float32)
        out = carray(pointer(call[OUT]), (call[COUNT], all_heads, size), np.float32)[row]
        for h in range(all_heads):
            top = piece_tops[0, row, h]
            for piece in range(1, call[PIECE_COUNT]):
                if piece_totals[piece, row, h] > F(0):
                    top = max(top, piece_tops[piece, row, h])
            total = F(0)
            for d in range(size):
                out[h, d] = F(0)
            for piece in range(call[PIECE_COUNT]):
                if piece_totals[piece, row, h] > F(0):
                    weight = exp2(F(piece_tops[piece, row, h] - top))
                    total += weight * piece_totals[piece, row, h]
                    for d in range(size):
                        out[h, d] += weight * piece_sums[piece, row, h, d]
            for d in range(size):
                out[h, d] /= total

    a_rotate, a_compute, a_merge, a_pool = rotate.address, compute.address, merge.address, native.POOL.ctypes.data
    run, run_with_thread = native.parallelize()

    @cfunc(types.void(types.int64, types.int64))
    def kernel(runtime: Any, arguments: Any) -> None:
        """Arguments: qkv, positions, sequences, cos, sin, cache, out."""
        call = carray(pointer(a_call), 11, np.int64)
        blocks = carray(pointer(a_blocks), (MAX_ROWS, 4), np.int64)
        for i in range(COUNT):
            call[i] = data_of(tensor_at(arguments, i))
        rows, slots = size_of(tensor_at(arguments, 0), 1), size_of(tensor_at(arguments, 5), 0)
        call[COUNT], call[CAPACITY] = rows, size_of(tensor_at(arguments, 5), 3)
        context = min(call[CAPACITY], size_of(tensor_at(arguments, 3), 0))
        out = tensor_at(arguments, 6)
        call[OUT] = data_of(out)
        set_rows(out, rows)

        positions = carray(pointer(call[POSITIONS]), rows, np.int64)
        sequences = carray(pointer(call[SEQUENCES]), rows, np.int64)
        used, longest = 0, np.int64(0)
        for row in range(rows):
            if not (0 <= sequences[row] < slots and 0 <= positions[row] < context) or rows > MAX_ROWS:
                fail(runtime)
                return
            longest = max(longest, positions[row] + 1)
            if (
                used == 0
                or blocks[used - 1, 1] == ROWS
                or sequences[row] != sequences[row - 1]
                or positions[row] != positions[row - 1] + 1
            ):
                # One by one: compiling the assignment of a tuple, and what it may raise, takes two seconds.
                blocks[used, 0], blocks[used, 1] = row, 0
                blocks[used, 2], blocks[used, 3] = sequences[row], positions[row]
                used += 1
            blocks[used - 1, 1] += 1
        call[PIECE_COUNT], call[PIECE_SIZE] = 1, longest
        if rows <= FEW and longest > PIECE:
            call[PIECE_SIZE] = max(PIECE, (longest + PIECES * KEYS - 1) // (PIECES * KEYS) * KEYS)
            call[PIECE_COUNT] = (longest + call[PIECE_SIZE] - 1) // call[PIECE_SIZE]
        pool = word_at(a_pool)
        run(pool, a_rotate, 0, rows, 1)
        run_with_thread(pool, a_compute, 0, used * kv * call[PIECE_COUNT], 1)
        if call[PIECE_COUNT] > 1:
            run(pool, a_merge, 0, rows, 1)

    return kernel, (memory, rotate, compute, merge)


_kernels = np.zeros((MAX_KERNELS, 5), np.int64)
"""Heads of queries and of keys, their size, bytes of a float in the cache, and the address of the kernel."""


def _dispatcher() -> Any:
    """What ExecuTorch calls: it goes on to the kernel for the heads that the cache and the projections have."""
    table = _kernels.ctypes.data

    @cfunc(types.void(types.int64, types.int64, types.int64))
    def attention(context: Any, arguments: Any, count: Any) -> None:
        kernels = carray(pointer(table), (MAX_KERNELS, 5), np.int64)
        cache = tensor_at(arguments, 5)
        kv, size = size_of(cache, 2), size_of(cache, 4)
        queries = size_of(tensor_at(arguments, 0), 2) // size - 2 * kv
        # Of ScalarType, Half is 5 and Float 6.
        item = 2 if type_of(cache) == 5 else 4
        for i in range(MAX_KERNELS):
            k = kernels[i]
            if k[0] == queries and k[1] == kv and k[2] == size and k[3] == item:
                call_address(k[4], context, arguments)
                return
        fail(context)

    return attention


_registered: dict[Heads, Any] = {}
"""What the kernels need to live."""


def register(heads: Heads) -> None:
    """Compiles the kernel for `heads`, about four seconds, and makes it known to ExecuTorch."""
    if heads in _registered:
        return
    kernel, alive = _compile(heads)
    _kernels[len(_registered)] = heads.queries * heads.kv, heads.kv, heads.size, heads.cache_bits // 8, kernel.address
    if not _registered:
        native.register("attention", _dispatcher())
    _registered[heads] = kernel, alive
