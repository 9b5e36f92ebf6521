"""The attention kernel: the operator `falcon::attention`, compiled for this very processor when the engine starts.

ExecuTorch's own attention goes through the BLAS that torch brings, which takes SSE2 code on processors that are not
Intel's, and computes its exponentials one at a time: with 1,900 tokens of context it took two thirds of a step.
This one reads each key and value once for all the query heads and rows that share it, has the KV cache in half
precision, takes the rows of all sequences in one call and does RoPE on the way.

It is written in Python, compiled by numba, and called by ExecuTorch like any other kernel. Two things are ExecuTorch's
own and pinned with its version: the layout in memory of a kernel's arguments (runtime/core/evalue.h,
runtime/core/portable_type/tensor_impl.h) and the names of three C++ functions.

The algorithm is that of flash attention: over blocks of keys, with a running maximum and sum (Dao et al., 2022,
arXiv:2205.14135). Where few rows have a long past, several threads take a piece of it each (flash decoding).
"""

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

OPERATOR = b"falcon::attention.out"
ROWS = 8
"""Rows of one sequence that are computed together: each key is read once for all of them."""
BLOCK = 64
"""Keys between two corrections of the running maximum."""
PIECE = 256
"""Keys that a thread takes at a time where rows are few, at least."""
PIECES = 16
FEW = 16
"""Up to so many rows, a past is divided into pieces."""
LOG2 = math.log(2)
# Of 2**x around 0, Taylor's: off by less than a float32 can tell for |x| <= 1/2.
T1, T2, T3, T4, T5, T6 = (np.float32(LOG2**k / math.factorial(k)) for k in range(1, 7))
F = np.float32

# Offsets of TensorImpl's members, and of KernelRuntimeContext's.
SIZES, STRIDES, DATA, NUMEL, TYPE = 0, 16, 24, 40, 56
FAILURE, INVALID_ARGUMENT = 16, 0x12
# What the parts of a call tell each other: addresses of tensors' data, and numbers.
QKV, POSITIONS, SEQUENCES, COS, SIN, CACHE, COUNT, CONTEXT, OUT, PIECE_COUNT, PIECE_SIZE = range(11)
MAX_ROWS = 256
"""As many as a batch has, graph.MAX_TOKENS."""
MAX_KERNELS = 16
MAX_THREADS = 128


@dataclass(frozen=True)
class Heads:
    """What a kernel is compiled for."""

    queries: int
    """Query heads for each key-value head."""
    kv: int
    size: int
    cache_bits: int
    """16 or 32: of the floats in the cache."""


@intrinsic
def _from_half(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), code


@intrinsic
def _to_half(typing: Any, number: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), code


@intrinsic
def _as_float(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), code


@intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), code


@intrinsic
def _call(typing: Any, address: Any, context: Any, arguments: Any) -> Any:
    def code(compiler: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [word, word]).as_pointer()
        builder.call(builder.inttoptr(args[0], function), args[1:])
        return compiler.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), code


@njit
def _number(address: Any) -> Any:
    return carray(_pointer(address), 1, np.int64)[0]


@njit
def _tensor(arguments: Any, index: Any) -> Any:
    """Address of an argument's TensorImpl."""
    return _number(_number(arguments + 8 * index))


@njit
def _size(impl: Any, dimension: Any) -> Any:
    return np.int64(carray(_pointer(_number(impl + SIZES)), 8, np.int32)[dimension])


@njit
def _same(number: Any) -> Any:
    return number


@njit(fastmath=True)
def _exp2(x: Any) -> Any:
    """2**x for x <= 0."""
    x = max(x, F(-120))
    whole = np.rint(x)
    r = F(x - whole)
    fraction = F(1) + r * (T1 + r * (T2 + r * (T3 + r * (T4 + r * (T5 + r * T6)))))
    return fraction * _as_float(np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)))


def _compile(heads: Heads, parallelize: Any) -> Any:
    """The kernel, and what must live as long as it: C functions and memory to work in."""
    queries, kv, size = heads.queries, heads.kv, heads.size
    all_heads, most = queries * kv, ROWS * queries
    scale = F(1 / math.log(2) / math.sqrt(size))  # So that what is left of the softmax are powers of 2.
    kind, widen, narrow = (np.uint16, _from_half, _to_half) if heads.cache_bits == 16 else (np.float32, _same, _same)
    item, threads = np.dtype(kind).itemsize, MAX_THREADS

    # Memory to work in, at addresses that the code knows.
    call = np.zeros(11, np.int64)
    blocks = np.zeros((MAX_ROWS, 4), np.int64)  # First row, rows, sequence, position of the first row.
    rotated = np.zeros((kv, MAX_ROWS, queries, size), np.float32)
    scores = np.zeros((threads, most, BLOCK), np.float32)
    wide = np.zeros((threads, 4, size), np.float32)
    sums = np.zeros((threads, most, size), np.float32)
    tops, totals = np.zeros((2, threads, most), np.float32)
    piece_sums = np.zeros((PIECES, FEW, all_heads, size), np.float32)
    piece_tops, piece_totals = np.zeros((2, PIECES, FEW, all_heads), np.float32)
    memory = (call, blocks, rotated, scores, wide, sums, tops, totals, piece_sums, piece_tops, piece_totals)
    a_call, a_blocks, a_rotated, a_scores, a_wide, a_sums, a_tops, a_totals, a_psums, a_ptops, a_ptotals = (
        array.ctypes.data for array in memory
    )

    @njit(fastmath=True)
    def take_four(numbers: Any, first: Any, wide: Any) -> None:
        for k in range(4):
            row = min(first + k, len(numbers) - 1)
            for d in range(size):
                wide[k, d] = widen(numbers[row, d])

    @njit(fastmath=True)
    def attend(
        q: Any, rows: Any, position: Any, keys: Any, values: Any, first: Any, last: Any,
        scores: Any, wide: Any, sums: Any, tops: Any, totals: Any,
    ) -> None:  # fmt: skip
        """Of the queries q [rows * queries, size], the first row of which is at `position`, over keys first to last:
        the weighted sums of values, and the maximum and the sum of the weights."""
        count = rows * queries
        for i in range(count):
            tops[i], totals[i] = F(-1e30), F(0)  # fastmath knows no infinity.
            for d in range(size):
                sums[i, d] = F(0)
        for base in range(first, last, BLOCK):
            there = min(BLOCK, last - base)
            for j in range(0, there, 4):
                take_four(keys, base + j, wide)
                for i in range(count):
                    s0, s1, s2, s3 = F(0), F(0), F(0), F(0)
                    for d in range(size):
                        s0 += q[i, d] * wide[0, d]
                        s1 += q[i, d] * wide[1, d]
                        s2 += q[i, d] * wide[2, d]
                        s3 += q[i, d] * wide[3, d]
                    scores[i, j], scores[i, j + 1], scores[i, j + 2], scores[i, j + 3] = s0, s1, s2, s3
            for i in range(count):
                seen = max(0, min(there, position + i // queries + 1 - base))
                top = tops[i]
                for j in range(seen):
                    top = max(top, scores[i, j])
                total = F(0)
                for j in range(seen):
                    weight = _exp2(F(scores[i, j] - top))
                    scores[i, j] = weight
                    total += weight
                for j in range(seen, BLOCK):
                    scores[i, j] = F(0)
                if top > tops[i]:
                    if totals[i] > F(0):
                        correction = _exp2(F(tops[i] - top))
                        totals[i] *= correction
                        for d in range(size):
                            sums[i, d] *= correction
                    tops[i] = top
                totals[i] += total
            for j in range(0, there, 4):
                take_four(values, base + j, wide)
                for i in range(count):
                    w0, w1, w2, w3 = scores[i, j], scores[i, j + 1], scores[i, j + 2], scores[i, j + 3]
                    for d in range(size):
                        sums[i, d] += w0 * wide[0, d] + w1 * wide[1, d] + w2 * wide[2, d] + w3 * wide[3, d]

    @njit
    def cache_of(call: Any, sequence: Any, which: Any, head: Any) -> Any:
        """Keys (0) or values (1) [context, size] of a head of a sequence."""
        context = call[CONTEXT]
        place = ((sequence * 2 + which) * kv + head) * context * size * item
        return carray(_pointer(call[CACHE] + place), (context, size), kind)

    @cfunc(types.void(types.uint64, types.uint64), fastmath=True)
    def rotate(_: Any, row: Any) -> None:
        """RoPE of a row's queries and key; its key and value go into the cache."""
        call = carray(_pointer(a_call), 11, np.int64)
        qkv = carray(_pointer(call[QKV]), (call[COUNT], all_heads + 2 * kv, size), np.float32)
        position = carray(_pointer(call[POSITIONS]), call[COUNT], np.int64)[row]
        sequence = carray(_pointer(call[SEQUENCES]), call[COUNT], np.int64)[row]
        cos = carray(_pointer(call[COS]), (call[CONTEXT], size), np.float32)
        sin = carray(_pointer(call[SIN]), (call[CONTEXT], size), np.float32)
        rotated = carray(_pointer(a_rotated), (kv, MAX_ROWS, queries, size), np.float32)
        middle = size // 2
        for head in range(all_heads):
            q = rotated[head // queries, row, head % queries]
            for d in range(middle):
                left, right = qkv[row, head, d], qkv[row, head, middle + d]
                q[d] = (left * cos[position, d] + right * sin[position, d]) * scale
                q[middle + d] = (right * cos[position, middle + d] + left * sin[position, middle + d]) * scale
        for head in range(kv):
            key = cache_of(call, sequence, 0, head)[position]
            value = cache_of(call, sequence, 1, head)[position]
            for d in range(middle):
                left, right = qkv[row, all_heads + head, d], qkv[row, all_heads + head, middle + d]
                key[d] = narrow(F(left * cos[position, d] + right * sin[position, d]))
                key[middle + d] = narrow(F(right * cos[position, middle + d] + left * sin[position, middle + d]))
            for d in range(size):
                value[d] = narrow(qkv[row, all_heads + kv + head, d])

    @cfunc(types.void(types.uint64, types.uint64, types.uint64), fastmath=True)
    def compute(_: Any, thread: Any, unit: Any) -> None:
        """A block of rows, for one key-value head and one piece of the past."""
        call = carray(_pointer(a_call), 11, np.int64)
        pieces, piece_size = call[PIECE_COUNT], call[PIECE_SIZE]
        piece, head, block = unit % pieces, unit // pieces % kv, unit // pieces // kv
        mine = carray(_pointer(a_blocks), (MAX_ROWS, 4), np.int64)[block]
        row, rows, sequence, position = mine[0], mine[1], mine[2], mine[3]
        count = rows * queries
        q = carray(_pointer(a_rotated), (kv, MAX_ROWS * queries, size), np.float32)[head, row * queries :]
        keys, values = cache_of(call, sequence, 0, head), cache_of(call, sequence, 1, head)
        scores = carray(_pointer(a_scores), (threads, most, BLOCK), np.float32)[thread]
        wide = carray(_pointer(a_wide), (threads, 4, size), np.float32)[thread]
        sums = carray(_pointer(a_sums), (threads, most, size), np.float32)[thread]
        tops = carray(_pointer(a_tops), (threads, most), np.float32)[thread]
        totals = carray(_pointer(a_totals), (threads, most), np.float32)[thread]
        end = position + rows
        first, last = min(piece * piece_size, end), min((piece + 1) * piece_size, end)
        attend(q, rows, position, keys, values, first, last, scores, wide, sums, tops, totals)
        if pieces == 1:
            out = carray(_pointer(call[OUT]), (call[COUNT], all_heads, size), np.float32)
            for i in range(count):
                target = out[row + i // queries, head * queries + i % queries]
                for d in range(size):
                    target[d] = sums[i, d] / totals[i]
        else:
            piece_sums = carray(_pointer(a_psums), (PIECES, FEW, all_heads, size), np.float32)[piece]
            piece_tops = carray(_pointer(a_ptops), (PIECES, FEW, all_heads), np.float32)[piece]
            piece_totals = carray(_pointer(a_ptotals), (PIECES, FEW, all_heads), np.float32)[piece]
            for i in range(count):
                r, h = row + i // queries, head * queries + i % queries
                piece_tops[r, h], piece_totals[r, h] = tops[i], totals[i]
                for d in range(size):
                    piece_sums[r, h, d] = sums[i, d]

    @cfunc(types.void(types.uint64, types.uint64), fastmath=True)
    def merge(_: Any, row: Any) -> None:
        """A row's result from those of the pieces."""
        call = carray(_pointer(a_call), 11, np.int64)
        piece_sums = carray(_pointer(a_psums), (PIECES, FEW, all_heads, size), np.float32)
        piece_tops = carray(_pointer(a_ptops), (PIECES, FEW, all_heads), np.float32)
        piece_totals = carray(_pointer(a_ptotals), (PIECES, FEW, all_heads), np.float32)
        out = carray(_pointer(call[OUT]), (call[COUNT], all_heads, size), np.float32)[row]
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
                    weight = _exp2(F(piece_tops[piece, row, h] - top))
                    total += weight * piece_totals[piece, row, h]
                    for d in range(size):
                        out[h, d] += weight * piece_sums[piece, row, h, d]
            for d in range(size):
                out[h, d] /= total

    a_rotate, a_compute, a_merge, a_pool = rotate.address, compute.address, merge.address, _pool.ctypes.data
    run, run_with_thread = parallelize

    @cfunc(types.void(types.int64, types.int64))
    def kernel(context: Any, arguments: Any) -> None:
        """Arguments: qkv, positions, sequences, cos, sin, cache, out."""
        call = carray(_pointer(a_call), 11, np.int64)
        blocks = carray(_pointer(a_blocks), (MAX_ROWS, 4), np.int64)
        for i in range(COUNT):
            call[i] = _number(_tensor(arguments, i) + DATA)
        rows, slots = _size(_tensor(arguments, 0), 1), _size(_tensor(arguments, 5), 0)
        call[COUNT], call[CONTEXT] = rows, _size(_tensor(arguments, 5), 3)
        out = _tensor(arguments, 6)
        call[OUT] = _number(out + DATA)
        carray(_pointer(_number(out + SIZES)), 3, np.int32)[1] = rows
        carray(_pointer(_number(out + STRIDES)), 3, np.int32)[0] = rows * all_heads * size
        carray(_pointer(out + NUMEL), 1, np.int64)[0] = rows * all_heads * size

        positions = carray(_pointer(call[POSITIONS]), rows, np.int64)
        sequences = carray(_pointer(call[SEQUENCES]), rows, np.int64)
        used, longest = 0, np.int64(0)
        for row in range(rows):
            if not (0 <= sequences[row] < slots and 0 <= positions[row] < call[CONTEXT]) or rows > MAX_ROWS:
                carray(_pointer(context + FAILURE), 1, np.int32)[0] = INVALID_ARGUMENT
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
            call[PIECE_SIZE] = max(PIECE, (longest + PIECES - 1) // PIECES)
            call[PIECE_COUNT] = (longest + call[PIECE_SIZE] - 1) // call[PIECE_SIZE]
        pool = _number(a_pool)
        run(pool, a_rotate, 0, rows, 1)
        run_with_thread(pool, a_compute, 0, used * kv * call[PIECE_COUNT], 1)
        if call[PIECE_COUNT] > 1:
            run(pool, a_merge, 0, rows, 1)

    return kernel, (memory, rotate, compute, merge, parallelize)


_pool = np.zeros(1, np.int64)
"""ExecuTorch's thread pool, which is another one after its size was set."""
_kernels = np.zeros((MAX_KERNELS, 5), np.int64)
"""Heads of queries and of keys, their size, bytes of a float in the cache, and the address of the kernel."""


def _dispatcher() -> Any:
    """What ExecuTorch calls: it goes on to the kernel for the heads that the cache and the projections have."""
    table = _kernels.ctypes.data

    @cfunc(types.void(types.int64, types.int64, types.int64))
    def attention(context: Any, arguments: Any, count: Any) -> None:
        kernels = carray(_pointer(table), (MAX_KERNELS, 5), np.int64)
        cache = _tensor(arguments, 5)
        kv, size = _size(cache, 2), _size(cache, 4)
        queries = _size(_tensor(arguments, 0), 2) // size - 2 * kv
        # Of ScalarType, Half is 5 and Float 6.
        item = 2 if carray(_pointer(cache + TYPE), 1, np.int8)[0] == 5 else 4
        for i in range(MAX_KERNELS):
            k = kernels[i]
            if k[0] == queries and k[1] == kv and k[2] == size and k[3] == item:
                _call(k[4], context, arguments)
                return
        carray(_pointer(context + FAILURE), 1, np.int32)[0] = INVALID_ARGUMENT

    return attention


class _Kernel(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("key", ctypes.c_void_p), ("function", ctypes.c_void_p)]


_registered: dict[Heads, Any] = {}
"""What the kernels need to live."""


def register(libraries: Path, heads: Heads) -> None:
    """Compiles the kernel for `heads`, about four seconds, and makes it known to ExecuTorch.

    `libraries` is executorch's folder of shared libraries, whose thread pool has its size by now: at most MAX_THREADS.
    """
    pools = ctypes.CDLL(str(libraries / "libexecutorch_threadpool.so"))
    pool = pools._ZN10executorch9extension10threadpool15get_pthreadpoolEv
    pool.restype = ctypes.c_size_t
    _pool[0] = pool()
    if heads in _registered:
        return
    word = ctypes.c_size_t
    parallelize = pools.pthreadpool_parallelize_1d, pools.pthreadpool_parallelize_1d_with_thread
    for function in parallelize:
        function.restype, function.argtypes = None, [word, word, word, word, ctypes.c_uint32]
    kernel, alive = _compile(heads, parallelize)
    _kernels[len(_registered)] = heads.queries * heads.kv, heads.kv, heads.size, heads.cache_bits // 8, kernel.address
    if not _registered:
        dispatcher = _dispatcher()
        runtime = ctypes.CDLL(str(libraries / "libexecutorch.so"))
        entry = _Kernel(OPERATOR, None, dispatcher.address)
        error = runtime._ZN10executorch7runtime16register_kernelsENS0_4SpanIKNS0_6KernelEEE(
            ctypes.byref(entry), ctypes.c_size_t(1)
        )
        assert error == 0, f"ExecuTorch refuses the kernel: error {error}"
        alive = alive, dispatcher, entry
    _registered[heads] = kernel, alive
