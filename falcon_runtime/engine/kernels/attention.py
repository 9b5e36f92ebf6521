"""`attention` of convert/traced/operators.py: RoPE, the update of the KV cache, and causal attention.

ExecuTorch's own kernel reads each key once for every query head and row, calls a BLAS that is slow on processors that
are not Intel's, and computes its exponentials one at a time: with 1,900 tokens of context it took two thirds of a step.
This one reads each key and value once for all the query heads and rows that share it, has the KV cache in half
precision or less, takes the rows of all sequences in one call and does RoPE (Su et al., 2021, arXiv:2104.09864) on the
way.

The algorithm is that of flash attention: over blocks of keys, with a running maximum and sum (Dao et al., 2022,
arXiv:2205.14135; the online softmax is Milakov and Gimelshein's, 2018, arXiv:1805.02867). Where few rows have a long
past, several threads take a piece of it each (flash decoding, Dao et al., 2023).

A call works in two or three steps, each on all threads: `rotate` a row at a time, `attend` for a block of rows, one
key-value head and one piece of the past, and `merge` the pieces of a row.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import carray, cfunc, njit

from ...models.architecture import MAX_LAYERS, MAX_TOKENS, SCALE_BYTES
from ...system.instruction_sets import InstructionSet
from .abi import CHAR, HALF, MAX_THREADS
from .arithmetic import F, exp2, higher
from .attention_cache import make_keep, make_place_of, make_turned, make_weigh
from .attention_loops import make_scores, make_sums
from .attention_workspace import (
    CACHE,
    FEW,
    KERNEL,
    KEYS,
    MAX_KERNELS,
    PIECE,
    PIECES,
    ROWS,
    RUN,
    TABLE,
    WORKSPACE,
    Heads,
)
from .passed import (
    KERNEL_SIGNATURE,
    ROW_SIGNATURE,
    UNIT_SIGNATURE,
    call_kernel,
    data_of,
    fail,
    parallelize,
    pointer,
    set_rows,
    size_of,
    tensor_at,
    type_of,
    word_at,
)

LEAST = F(-1e30)
"""A maximum of nothing: fastmath knows no infinity."""


@njit
def workspace_at(address: Any) -> Any:
    return carray(pointer(address), 1, WORKSPACE)[0]


def rotate(heads: Heads) -> Mapping[str, Any]:
    """RoPE of a row's queries and key; its key and value go into the cache."""
    queries, kv, size, all_heads = heads.queries, heads.kv, heads.size, heads.all
    keep, (first, second), middle = make_keep(heads), make_turned(heads), heads.size // 2
    scale = F(1 / math.log(2) / math.sqrt(size))  # So that what is left of the softmax are powers of 2.

    @njit(fastmath=True)
    def rotate_queries(w: Any, row: Any, qkv: Any, cos: Any, sin: Any) -> None:
        rotated = carray(pointer(w.rotated), (kv, MAX_TOKENS, queries, size), np.float32)
        for head in range(all_heads):
            q = rotated[head // queries, row, head % queries]
            for d in range(middle):
                q[d] = first(qkv[head], d, cos, sin) * scale
                q[middle + d] = second(qkv[head], d, cos, sin) * scale

    @cfunc(ROW_SIGNATURE, fastmath=True)
    def rotate_row(address: Any, row: Any) -> None:
        w = workspace_at(address)
        qkv = carray(pointer(w.qkv), (w.rows, all_heads + 2 * kv, size), np.float32)[row]
        position = carray(pointer(w.positions), w.rows, np.int64)[row]
        cos = carray(pointer(w.cos), (position + 1, size), np.float32)[position]
        sin = carray(pointer(w.sin), (position + 1, size), np.float32)[position]
        rotate_queries(w, row, qkv, cos, sin)
        keep(w, carray(pointer(w.sequences), w.rows, np.int64)[row], position, qkv, cos, sin)

    return {"rotate": rotate_row}


def _make_soften(heads: Heads) -> Any:
    size = heads.size

    @njit(fastmath=True)
    def soften(scores: Any, sums: Any, tops: Any, totals: Any, i: Any, seen: Any) -> None:
        """Makes weights of row i's scores [KEYS], of which `seen` keys count, relative to the running maximum; brings
        what was summed before to it."""
        top = tops[i]
        for j in range(seen):
            top = higher(top, scores[i, j])
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

    return soften


def attend(heads: Heads, isa: InstructionSet) -> Mapping[str, Any]:
    """Of a run of rows, for one key-value head and one piece of the past: the weighted sums of values, and the maximum
    and the sum of the weights. If there is one piece, the result."""
    queries, kv, size, all_heads, token_bytes = heads.queries, heads.kv, heads.size, heads.all, heads.bytes
    most, place_of, soften, weigh = ROWS * queries, make_place_of(heads), _make_soften(heads), make_weigh(heads)
    score, add_values = (make(queries, size, heads.cache_bits, isa) for make in (make_scores, make_sums))

    @njit(fastmath=True)
    def over_keys(
        w: Any, run: Any, head: Any, first: Any, last: Any, weights_at: Any, sums_at: Any, tops: Any, totals: Any
    ) -> None:
        count = run.rows * queries
        q = w.rotated + (head * MAX_TOKENS + run.row) * queries * size * 4
        keys, values = place_of(w, run.sequence, 0, head), place_of(w, run.sequence, 1, head)
        weights = carray(pointer(weights_at), (most, KEYS), np.float32)
        sums = carray(pointer(sums_at), (most, size), np.float32)
        for i in range(count):
            tops[i], totals[i] = LEAST, F(0)
            for d in range(size):
                sums[i, d] = F(0)
        for base in range(first, last, KEYS):
            there, before = min(KEYS, last - base), base * token_bytes
            score(q, count, keys + before, there, weights_at)
            for i in range(count):
                soften(weights, sums, tops, totals, i, max(0, min(there, run.position + i // queries + 1 - base)))
            weigh(weights, count, values + before, there)
            add_values(weights_at, count, values + before, there, sums_at)

    @njit(fastmath=True)
    def finish(w: Any, run: Any, head: Any, piece: Any, sums: Any, tops: Any, totals: Any) -> None:
        out = carray(pointer(w.out), (w.rows, all_heads, size), np.float32)
        piece_sums = carray(pointer(w.piece_sums), (PIECES, FEW, all_heads, size), np.float32)[piece]
        piece_tops = carray(pointer(w.piece_tops), (PIECES, FEW, all_heads), np.float32)[piece]
        piece_totals = carray(pointer(w.piece_totals), (PIECES, FEW, all_heads), np.float32)[piece]
        for i in range(run.rows * queries):
            r, h = run.row + i // queries, head * queries + i % queries
            if w.pieces == 1:
                factor = F(1) / totals[i]
                for d in range(size):
                    out[r, h, d] = sums[i, d] * factor
            else:
                piece_tops[r, h], piece_totals[r, h] = tops[i], totals[i]
                for d in range(size):
                    piece_sums[r, h, d] = sums[i, d]

    @cfunc(UNIT_SIGNATURE, fastmath=True)
    def attend_unit(address: Any, thread: Any, unit: Any) -> None:
        w = workspace_at(address)
        piece, head = unit % w.pieces, unit // w.pieces % kv
        run = carray(pointer(w.run), MAX_TOKENS, RUN)[unit // w.pieces // kv]
        weights_at, sums_at = w.weights + thread * most * KEYS * 4, w.sums + thread * most * size * 4
        tops = carray(pointer(w.tops), (MAX_THREADS, most), np.float32)[thread]
        totals = carray(pointer(w.totals), (MAX_THREADS, most), np.float32)[thread]
        end = run.position + run.rows
        first, last = min(piece * w.piece_size, end), min((piece + 1) * w.piece_size, end)
        over_keys(w, run, head, first, last, weights_at, sums_at, tops, totals)
        finish(w, run, head, piece, carray(pointer(sums_at), (most, size), np.float32), tops, totals)

    return {"attend": attend_unit}


def merge(heads: Heads) -> Mapping[str, Any]:
    """A row's result from those of the pieces."""
    size, all_heads = heads.size, heads.all

    @cfunc(ROW_SIGNATURE, fastmath=True)
    def merge_row(address: Any, row: Any) -> None:
        w = workspace_at(address)
        sums = carray(pointer(w.piece_sums), (PIECES, FEW, all_heads, size), np.float32)
        tops = carray(pointer(w.piece_tops), (PIECES, FEW, all_heads), np.float32)
        totals = carray(pointer(w.piece_totals), (PIECES, FEW, all_heads), np.float32)
        out = carray(pointer(w.out), (w.rows, all_heads, size), np.float32)[row]
        for h in range(all_heads):
            top = LEAST
            for piece in range(w.pieces):
                if totals[piece, row, h] > F(0):
                    top = higher(top, tops[piece, row, h])
            total = F(0)
            for d in range(size):
                out[h, d] = F(0)
            for piece in range(w.pieces):
                if totals[piece, row, h] > F(0):
                    weight = exp2(F(tops[piece, row, h] - top))
                    total += weight * totals[piece, row, h]
                    for d in range(size):
                        out[h, d] += weight * sums[piece, row, h, d]
            factor = F(1) / total
            for d in range(size):
                out[h, d] *= factor

    return {"merge": merge_row}


@njit
def _begin(w: Any, arguments: Any) -> Any:
    """Reads what the operator is called with; whether it can be computed."""
    w.rows = size_of(tensor_at(arguments, 0), 1)
    w.qkv, w.positions = data_of(tensor_at(arguments, 0)), data_of(tensor_at(arguments, 1))
    w.sequences = data_of(tensor_at(arguments, 2))
    w.cos, w.sin = data_of(tensor_at(arguments, 3)), data_of(tensor_at(arguments, 4))
    cache, out = tensor_at(arguments, 5), tensor_at(arguments, 6)
    w.cache, w.capacity, w.out = data_of(cache), size_of(cache, 3), data_of(out)
    set_rows(out, w.rows)
    slots, context = size_of(cache, 0), min(w.capacity, size_of(tensor_at(arguments, 3), 0))
    positions, sequences = (
        carray(pointer(w.positions), w.rows, np.int64),
        carray(pointer(w.sequences), w.rows, np.int64),
    )
    known = w.rows <= MAX_TOKENS
    for row in range(w.rows):
        known = known and 0 <= sequences[row] < slots and 0 <= positions[row] < context
    return known


@njit
def _divide(w: Any) -> None:
    """Divides the rows into runs, and the past into pieces."""
    positions, sequences = (
        carray(pointer(w.positions), w.rows, np.int64),
        carray(pointer(w.sequences), w.rows, np.int64),
    )
    runs = carray(pointer(w.run), MAX_TOKENS, RUN)
    w.runs, longest = 0, np.int64(0)
    for row in range(w.rows):
        longest = max(longest, positions[row] + 1)
        if (
            w.runs == 0
            or runs[w.runs - 1].rows == ROWS
            or sequences[row] != sequences[row - 1]
            or positions[row] != positions[row - 1] + 1
        ):
            run = runs[w.runs]
            run.row, run.rows, run.sequence, run.position = row, 0, sequences[row], positions[row]
            w.runs += 1
        runs[w.runs - 1].rows += 1
    w.pieces, w.piece_size = 1, longest
    if w.rows <= FEW and longest > PIECE:
        w.piece_size = max(PIECE, (longest + PIECES * KEYS - 1) // (PIECES * KEYS) * KEYS)
        w.pieces = (longest + w.piece_size - 1) // w.piece_size


def attention_of_heads(heads: Heads) -> Mapping[str, Any]:
    """The kernel for these heads."""
    kv = heads.kv

    @cfunc(KERNEL_SIGNATURE)
    def kernel(address: Any, context: Any, arguments: Any, count: Any) -> None:
        w = workspace_at(address)
        if not _begin(w, arguments):
            fail(context)
            return
        _divide(w)
        pool = word_at(w.pool)
        parallelize(w.parallelize, pool, w.rotate, address, w.rows)
        parallelize(w.parallelize_with_thread, pool, w.attend, address, w.runs * kv * w.pieces)
        if w.pieces > 1:
            parallelize(w.parallelize, pool, w.merge, address, w.rows)

    return {"kernel": kernel}


@njit
def _item_of(cache: Any) -> Any:
    """Bytes of a number in the cache."""
    kind = type_of(cache)
    return 1 if kind == CHAR else 2 if kind == HALF else 4


@njit
def _note(table: Any, cache: Any, item: Any) -> None:
    """Writes down where the cache lies, for `Kernels.caches_of`."""
    if table.noted < MAX_LAYERS:
        c = carray(pointer(table.caches), MAX_LAYERS, CACHE)[table.noted]
        c.address, c.slots, c.heads = data_of(cache), size_of(cache, 0), size_of(cache, 1) * size_of(cache, 2)
        c.tokens, c.bytes = size_of(cache, 3), size_of(cache, 4) * item
        table.noted += 1


def attention() -> Mapping[str, Any]:
    """What ExecuTorch calls: it goes on to the kernel for the heads that the cache and the projections have."""

    @cfunc(KERNEL_SIGNATURE)
    def kernel(address: Any, context: Any, arguments: Any, count: Any) -> None:
        table = carray(pointer(address), 1, TABLE)[0]
        cache = tensor_at(arguments, 5)
        kv, size, item = size_of(cache, 2), size_of(cache, 4), _item_of(cache)
        _note(table, cache, item)
        if item == 1:
            size -= SCALE_BYTES
        heads = size_of(tensor_at(arguments, 0), 2) // size - 2 * kv
        for i in range(table.count):
            k = carray(pointer(table.kernels), MAX_KERNELS, KERNEL)[i]
            if k.heads == heads and k.kv == kv and k.size == size and k.item == item:
                call_kernel(k.kernel, k.workspace, context, arguments, count)
                return
        fail(context)

    return {"attention": kernel}
