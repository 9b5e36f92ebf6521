"""The sums of products of four unsigned with four signed bytes, by what a processor has."""

from typing import Any

from llvmlite import ir

from ...models.recipes import TILE
from .instruction_sets import Products
from .vectors import BYTE, INT, INTS, SHORT, Code

BYTES, SHORTS = ir.VectorType(BYTE, 4 * TILE), ir.VectorType(SHORT, 4 * TILE)
PAIRS = ir.VectorType(SHORT, 2 * TILE)


def dot(code: Code, products: Products, bits: int, sums: Any, unsigned: Any, signed: Any) -> Any:
    """`sums`, 16 int32, plus the products of four bytes each; the unsigned ones have so many bits, 4 or 8."""
    if products == "avx512vnni":
        return code.call("llvm.x86.avx512.vpdpbusd.512", INTS, sums, unsigned, signed)
    if products == "avx2":
        return _dot_avx2(code, bits, sums, unsigned, signed)
    return _dot_any(code, sums, unsigned, signed)


def _dot_any(code: Code, sums: Any, unsigned: Any, signed: Any) -> Any:
    """In steps that most processors have instructions for: products of 16-bit numbers, summed by twos."""
    b = code.builder
    wide, ints = (b.zext(unsigned, SHORTS), b.sext(signed, SHORTS)), ir.VectorType(INT, 2 * TILE)
    twos = [[b.sext(_every_second(code, x, i), ints) for x in wide] for i in range(2)]
    pairs = b.add(*(b.mul(*two) for two in twos))
    return b.add(sums, b.add(*(_every_second(code, pairs, i) for i in range(2))))


def _every_second(code: Code, vector: Any, first: int) -> Any:
    count = vector.type.count
    places = ir.Constant(ir.VectorType(INT, count // 2), list(range(first, count, 2)))
    return code.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), places)


def _dot_avx2(code: Code, bits: int, sums: Any, unsigned: Any, signed: Any) -> Any:
    """Two products of bytes are summed in 16 bits: no more than 4 bits of the one, or they overflow."""
    b, mask = code.builder, ir.Constant(BYTES, [15] * 4 * TILE)
    if bits == 4:
        return b.add(sums, _small_products(code, unsigned, signed))
    high = b.bitcast(b.lshr(b.bitcast(unsigned, PAIRS), ir.Constant(PAIRS, [4] * 2 * TILE)), BYTES)
    sixteenths = _small_products(code, b.and_(high, mask), signed)
    low = b.add(sums, _small_products(code, b.and_(unsigned, mask), signed))
    return b.add(low, b.shl(sixteenths, ir.Constant(INTS, [4] * TILE)))


def _small_products(code: Code, unsigned: Any, signed: Any) -> Any:
    words, ints, empty = ir.VectorType(SHORT, 16), ir.VectorType(INT, 8), ir.Constant(BYTES, ir.Undefined)
    ones, sums = ir.Constant(words, [1] * 16), []
    for first in (0, 32):
        places = ir.Constant(ir.VectorType(INT, 32), list(range(first, first + 32)))
        parts = [code.builder.shuffle_vector(vector, empty, places) for vector in (unsigned, signed)]
        twos = code.call("llvm.x86.avx2.pmadd.ub.sw", words, *parts)
        sums.append(code.call("llvm.x86.avx2.pmadd.wd", ints, twos, ones))
    return code.builder.shuffle_vector(*sums, ir.Constant(INTS, list(range(TILE))))
