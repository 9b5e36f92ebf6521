"""How the products of a block are summed: 32 unsigned numbers of some outputs with the 32 inputs of each row.

The same integers come out whatever a processor has. Weights lie in groups of four, four bytes of each output one after
the other (`recipes.Scheme`), and are unpacked once for all rows.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir

from ...models.recipes import QUADS, TILE, Scheme
from ...system.instruction_sets import InstructionSet
from .vectors import BYTE, INT, SHORT, Code, constant

Values = list[Any]


class BlockSums:
    """For `lanes` of the 16 outputs of a tile at a time."""

    signed = False
    """Whether the weights' zero is taken off before they are multiplied, so that rows need not start from what it adds
    up to."""

    def __init__(self, code: Code, scheme: Scheme, isa: InstructionSet):
        self.code, self.scheme, self.lanes, self.isa = code, scheme, isa.lanes, isa
        self.ints = ir.VectorType(INT, isa.lanes)
        self.shorts, self.bytes = ir.VectorType(SHORT, 2 * isa.lanes), ir.VectorType(BYTE, 4 * isa.lanes)

    def sums(self, at: Any, part: int, rows: Sequence[Any], starts: Values) -> Values:
        """Of each row int32 [lanes], on top of `starts`. `at` is the address of the block's numbers, `part` says which
        outputs, and `rows` are the addresses of the rows' inputs."""
        raise NotImplementedError

    def quads(self, at: Any, part: int) -> Iterator[tuple[int, Any]]:
        """The groups of four: which it is, and its unsigned bytes."""
        b, here = self.code.builder, part * 4 * self.lanes
        if self.scheme.bits == 8:
            for i in range(QUADS):
                yield i, self.code.load(self.code.offset(at, i * 4 * TILE + here, 1), self.bytes)
            return
        mask = constant(self.bytes, 15)
        for i in range(QUADS // 2):
            both = self.code.load(self.code.offset(at, i * 4 * TILE + here, 1), self.bytes)
            high = b.bitcast(b.lshr(b.bitcast(both, self.shorts), constant(self.shorts, 4)), self.bytes)
            yield 2 * i, b.and_(both, mask)
            yield 2 * i + 1, b.and_(high, mask)

    def inputs(self, row: Any, quad: int) -> Any:
        """The four inputs that meet a group, for each output."""
        four = self.code.spread(self.code.offset(row, quad, 4), INT, self.lanes)
        return self.code.builder.bitcast(four, self.bytes)


class Dots(BlockSums):
    """By an instruction that adds the products of four unsigned and four signed bytes to an int32."""

    def sums(self, at: Any, part: int, rows: Sequence[Any], starts: Values) -> Values:
        sums = starts
        for i, quad in self.quads(at, part):
            sums = [self.dot(total, quad, self.inputs(row, i)) for total, row in zip(sums, rows, strict=True)]
        return sums

    def dot(self, total: Any, unsigned: Any, signed: Any) -> Any:
        return self.code.call(f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}", self.ints, total, unsigned, signed)


class SignedDots(Dots):
    """ARM's instruction takes signed bytes."""

    def __init__(self, code: Code, scheme: Scheme, isa: InstructionSet):
        super().__init__(code, scheme, isa)
        self.signed = scheme.bits == 8

    def quads(self, at: Any, part: int) -> Iterator[tuple[int, Any]]:
        for i, quad in super().quads(at, part):
            yield i, self.code.builder.xor(quad, constant(self.bytes, -128)) if self.signed else quad

    def dot(self, total: Any, unsigned: Any, signed: Any) -> Any:
        return self.code.call("llvm.aarch64.neon.sdot.v4i32.v16i8", self.ints, total, unsigned, signed)


class PlainDots(Dots):
    """In steps that most processors have instructions for: products of 16-bit numbers, summed by twos."""

    def dot(self, total: Any, unsigned: Any, signed: Any) -> Any:
        b = self.code.builder
        shorts, ints = ir.VectorType(SHORT, 4 * self.lanes), ir.VectorType(INT, 2 * self.lanes)
        wide = b.zext(unsigned, shorts), b.sext(signed, shorts)
        twos = [[b.sext(self._every_second(x, i), ints) for x in wide] for i in range(2)]
        pairs = b.add(*(b.mul(*two) for two in twos))
        return b.add(total, b.add(*(self._every_second(pairs, i) for i in range(2))))

    def _every_second(self, vector: Any, first: int) -> Any:
        count = vector.type.count
        places = ir.Constant(ir.VectorType(INT, count // 2), list(range(first, count, 2)))
        return self.code.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), places)


class ShortSums(BlockSums):
    """Weights of 4 bits: the sums of a whole block fit into 16 bits, 15 * 127 * 2 * 8 = 30,480, and are summed by twos
    once at its end."""

    def sums(self, at: Any, part: int, rows: Sequence[Any], starts: Values) -> Values:
        b, sums = self.code.builder, Values()
        for i, quad in self.quads(at, part):
            products = [self.pairs(quad, self.inputs(row, i)) for row in rows]
            sums = [b.add(total, pair) for total, pair in zip(sums, products, strict=True)] if sums else products
        return [b.add(start, self.by_twos(total)) for start, total in zip(starts, sums, strict=True)]

    def pairs(self, unsigned: Any, signed: Any) -> Any:
        """Sums of two products of bytes, in 16 bits."""
        name = "avx512.pmaddubs.w.512" if self.lanes == 16 else "avx2.pmadd.ub.sw"
        return self.code.call(f"llvm.x86.{name}", self.shorts, unsigned, signed)

    def by_twos(self, shorts: Any) -> Any:
        name = "avx512.pmaddw.d.512" if self.lanes == 16 else "avx2.pmadd.wd"
        return self.code.call(f"llvm.x86.{name}", self.ints, shorts, constant(self.shorts, 1))


class SignedSums(ShortSums):
    """Weights of 8 bits: their magnitudes meet inputs that have taken their signs, so that two products,
    128 * 127 * 2 = 32,512, fit into 16 bits; no more, so that these are summed by twos at once."""

    signed = True

    def sums(self, at: Any, part: int, rows: Sequence[Any], starts: Values) -> Values:
        b, sums = self.code.builder, Values()
        for i, quad in self.quads(at, part):
            weights = b.xor(quad, constant(self.bytes, -128))
            magnitudes = self.code.call(f"llvm.abs.v{4 * self.lanes}i8", self.bytes, weights, ir.IntType(1)(0))
            twos = [self.by_twos(self.pairs(magnitudes, self.with_signs(self.inputs(row, i), weights))) for row in rows]
            sums = [b.add(total, two) for total, two in zip(sums, twos, strict=True)] if sums else twos
        return sums

    def with_signs(self, inputs: Any, weights: Any) -> Any:
        """The inputs, negative where a weight is."""
        if self.lanes == 8:
            return self.code.call("llvm.x86.avx2.psign.b", self.bytes, inputs, weights)
        b = self.code.builder
        negative = b.icmp_signed("<", weights, constant(self.bytes, 0))
        return b.select(negative, b.sub(constant(self.bytes, 0), inputs), inputs)


_WAYS: dict[str, tuple[Callable[[Code, Scheme, InstructionSet], BlockSums], ...]] = {
    # Of weights of 4 and of 8 bits.
    "avx512vnni": (Dots, Dots),
    "avx512": (ShortSums, SignedSums),
    "avxvnni": (Dots, Dots),
    "avx2": (ShortSums, SignedSums),
    "dotprod": (SignedDots, SignedDots),
    "any": (PlainDots, PlainDots),
}


def block_sums(code: Code, scheme: Scheme, isa: InstructionSet) -> BlockSums:
    return _WAYS[isa.name][scheme.bits == 8](code, scheme, isa)
