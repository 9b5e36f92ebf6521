"""How the products of a block are summed: 32 unsigned numbers of some outputs with the 32 inputs of each row.

The same integers come out whatever a processor has. Weights lie in groups of four, four bytes of each output one after
the other (`recipes.Scheme`), and are unpacked once for all rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from llvmlite import ir

from ...models.recipes import QUADS, TILE, Scheme
from ...system.instruction_sets import InstructionSet
from .vectors import BYTE, INT, LONG, SHORT, Code, constant

Values = list[Any]
Starts = Callable[[], Values]
"""Gives what the sums of each row start from, int32 [rows][lanes], read where it is called: early where it costs
nothing, or late where registers are few."""


class BlockSums(ABC):
    """`lanes` outputs fill a register, so that a tile has one part or several."""

    signed = False
    """Whether the weights' zero is taken off before they are multiplied, so that rows need not start from what it adds
    up to."""

    def __init__(self, code: Code, scheme: Scheme, isa: InstructionSet):
        self.code, self.scheme, self.lanes = code, scheme, isa.lanes
        self.parts = range(TILE // isa.lanes)
        self.rows = isa.registers // 2 // len(self.parts)
        """Whose sums fit into half of the registers."""
        self.ints = ir.VectorType(INT, isa.lanes)
        self.shorts, self.bytes = ir.VectorType(SHORT, 2 * isa.lanes), ir.VectorType(BYTE, 4 * isa.lanes)

    @abstractmethod
    def sums(self, at: Any, rows: Sequence[Any], starts: Starts) -> list[Values]:
        """Of each row, on top of what it starts from: int32 [parts][rows][lanes]. `at` is the address of the block's
        numbers, and `rows` are those of the rows' inputs."""

    def started(self, sums: Iterable[Iterable[Any]], starts: Starts) -> list[Values]:
        """Sums [parts][rows] on top of what the rows start from."""
        begun = starts()
        return [[self.code.builder.add(*both) for both in zip(begun, part, strict=True)] for part in sums]

    @abstractmethod
    def multiply(self, total: Any, inputs: Any) -> Any:
        """The products of a register's bytes with those of another, as fast as the processor can, with nothing around;
        a bit pattern of no use."""

    def quads(self, at: Any) -> Iterator[tuple[int, Values]]:
        """The groups of four: which it is, and its unsigned bytes, [parts]."""
        if self.scheme.bits == 8:
            yield from ((i, self._stored(at, i)) for i in range(QUADS))
            return
        high: Values = []
        for two in range(QUADS // 2):
            low = self._stored(at, two)
            if self.scheme.bits == 6 and two % 2 == 0:
                high = self._stored(at, QUADS // 2 + two // 2)
            for i in (2 * two, 2 * two + 1):
                numbers = [self._masked(one, 15, 4 * (i % 2)) for one in low]
                top = [self._masked(one, 48, 2 * (i % 4) - 4) for one in high]
                yield i, [self.code.builder.or_(*both) for both in zip(numbers, top, strict=True)] if top else numbers

    def _stored(self, at: Any, i: int) -> Values:
        """Bytes in the order of a group, [parts]."""
        places = [self.code.offset(at, 4 * (i * TILE + part * self.lanes), 1) for part in self.parts]
        return [self.code.load(place, self.bytes) for place in places]

    def _masked(self, numbers: Any, mask: int, right: int) -> Any:
        """Bits of each byte, shifted to the right, or to the left where `right` is negative."""
        b = self.code.builder
        if right:
            shift = b.lshr if right > 0 else b.shl
            shifted = shift(b.bitcast(numbers, self.shorts), constant(self.shorts, abs(right)))
            numbers = b.bitcast(shifted, self.bytes)
        return b.and_(numbers, constant(self.bytes, mask))

    def inputs(self, row: Any, quad: int) -> Any:
        """The four inputs that meet a group, for each output."""
        four = self.code.spread(self.code.offset(row, quad, 4), INT, self.lanes)
        return self.code.builder.bitcast(four, self.bytes)


class Dots(BlockSums):
    """By an instruction that adds the products of four unsigned and four signed bytes to an int32."""

    def sums(self, at: Any, rows: Sequence[Any], starts: Starts) -> list[Values]:
        begun = starts()
        sums = [list(begun) for _ in self.parts]
        for i, quad in self.quads(at):
            for row, address in enumerate(rows):
                four = self.inputs(address, i)
                for part, unsigned in enumerate(quad):
                    sums[part][row] = self.dot(sums[part][row], unsigned, four)
        return sums

    def multiply(self, total: Any, inputs: Any) -> Any:
        return self.dot(total, inputs, inputs)

    def dot(self, total: Any, unsigned: Any, signed: Any) -> Any:
        return self.code.call(f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}", self.ints, total, unsigned, signed)


class SignedDots(Dots):
    """ARM's instruction takes signed bytes."""

    def __init__(self, code: Code, scheme: Scheme, isa: InstructionSet):
        super().__init__(code, scheme, isa)
        self.signed = scheme.bits == 8

    def quads(self, at: Any) -> Iterator[tuple[int, Values]]:
        for i, quad in super().quads(at):
            yield i, [self.code.builder.xor(one, constant(self.bytes, -128)) if self.signed else one for one in quad]

    def dot(self, total: Any, unsigned: Any, signed: Any) -> Any:
        return self.code.call("llvm.aarch64.neon.sdot.v4i32.v16i8", self.ints, total, unsigned, signed)


class MatrixSums(Dots):
    """By ARM's instruction that multiplies a matrix of 2 x 8 unsigned bytes with one of 8 x 2 signed ones: two groups
    of two outputs with those of two rows. Where a row is left over, it is both of the two."""

    def sums(self, at: Any, rows: Sequence[Any], starts: Starts) -> list[Values]:
        if len(rows) == 1:
            return super().sums(at, rows, starts)
        zeros, quads = constant(self.ints, 0), self.quads(at)
        twos = [(rows[i], rows[min(i + 1, len(rows) - 1)]) for i in range(0, len(rows), 2)]
        sums = [[[zeros, zeros] for _ in twos] for _ in self.parts]
        for i, first in quads:
            _, second = next(quads)
            inputs = [self.eights(two, i) for two in twos]
            for part, both in enumerate(zip(first, second, strict=True)):
                for half, weights in enumerate(self.outputs_by_two(*both)):
                    for two, eights in zip(sums[part], inputs, strict=True):
                        two[half] = self.matrix_product(two[half], weights, eights)
        each = [[row for two in part for row in self.rows_of(*two)][: len(rows)] for part in sums]
        return self.started(each, starts)

    def dot(self, total: Any, unsigned: Any, signed: Any) -> Any:
        return self.code.call("llvm.aarch64.neon.usdot.v4i32.v16i8", self.ints, total, unsigned, signed)

    def multiply(self, total: Any, inputs: Any) -> Any:
        return self.matrix_product(total, inputs, inputs)

    def matrix_product(self, total: Any, unsigned: Any, signed: Any) -> Any:
        """[outputs, rows], the rows of an output beside each other."""
        return self.code.call("llvm.aarch64.neon.usmmla.v4i32.v16i8", self.ints, total, unsigned, signed)

    def outputs_by_two(self, first: Any, second: Any) -> Values:
        """Bytes [4 outputs][4] of two groups as [2 outputs][8], twice."""
        first, second = (self.code.builder.bitcast(four, self.ints) for four in (first, second))
        halves = [self._picked(first, second, (i, 4 + i, i + 1, 5 + i)) for i in (0, 2)]
        return [self.code.builder.bitcast(half, self.bytes) for half in halves]

    def eights(self, two: Sequence[Any], quad: int) -> Any:
        """The eight inputs of two rows that meet a group and the next one."""
        both: Any = ir.Constant(ir.VectorType(LONG, 2), ir.Undefined)
        for place, row in enumerate(two):
            eight = self.code.load(self.code.offset(row, quad, 4), LONG)
            both = self.code.builder.insert_element(both, eight, INT(place))
        return self.code.builder.bitcast(both, self.bytes)

    def rows_of(self, half: Any, other: Any) -> Values:
        """The sums of a row for four outputs, and those of the other."""
        return [self._picked(half, other, (i, i + 2, i + 4, i + 6)) for i in (0, 1)]

    def _picked(self, one: Any, other: Any, places: Sequence[int]) -> Any:
        return self.code.builder.shuffle_vector(one, other, ir.Constant(self.ints, places))


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
    once at its end. Of 6 bits, those of two groups: 63 * 127 * 2 * 2 = 32,004."""

    def __init__(self, code: Code, scheme: Scheme, isa: InstructionSet):
        super().__init__(code, scheme, isa)
        self.together = QUADS if scheme.bits == 4 else 2

    def sums(self, at: Any, rows: Sequence[Any], starts: Starts) -> list[Values]:
        ones = constant(self.shorts, 1)
        sums: list[Values] = [[] for _ in rows]
        shorts: list[Values] = [[] for _ in rows]
        for i, quad in self.quads(at):
            for row, address in enumerate(rows):
                shorts[row] = self.add(shorts[row], quad, address, i)
            if (i + 1) % self.together == 0:
                twos = [[self.by_twos(part, ones) for part in row] for row in shorts]
                sums = [self.added(*both) for both in zip(sums, twos, strict=True)]
                shorts = [[] for _ in rows]
        return self.started(zip(*sums, strict=True), starts)

    def added(self, sums: Values, more: Values) -> Values:
        """A row's sums [parts] and more of them; there are none at first."""
        return [self.code.builder.add(*both) for both in zip(sums, more, strict=True)] if sums else more

    def add(self, sums: Values, quad: Values, row: Any, i: int) -> Values:
        """A row's sums [parts], with the products of a group."""
        four = self.inputs(row, i)
        return self.added(sums, [self.pairs(unsigned, four) for unsigned in quad])

    def multiply(self, total: Any, inputs: Any) -> Any:
        return self.pairs(self.code.builder.bitcast(total, self.bytes), inputs)

    def pairs(self, unsigned: Any, signed: Any) -> Any:
        """Sums of two products of bytes, in 16 bits."""
        name = "avx512.pmaddubs.w.512" if self.lanes == 16 else "avx2.pmadd.ub.sw"
        return self.code.call(f"llvm.x86.{name}", self.shorts, unsigned, signed)

    def by_twos(self, shorts: Any, factors: Any) -> Any:
        """Sums of two products of 16-bit numbers."""
        return self.code.call("llvm.x86.avx512.pmaddw.d.512", self.ints, shorts, factors)


class SignedSums(ShortSums):
    """Weights of 8 bits: their magnitudes meet inputs that have taken their signs, so that two products,
    128 * 127 * 2 = 32,512, fit into 16 bits; no more, so that these are summed by twos at once."""

    signed = True

    def sums(self, at: Any, rows: Sequence[Any], starts: Starts) -> list[Values]:
        sums: list[Values] = [[] for _ in rows]
        for i, quad in self.quads(at):
            weights = [self.code.builder.xor(one, constant(self.bytes, -128)) for one in quad]
            both = [(one, self.magnitudes(one)) for one in weights]
            for row, address in enumerate(rows):
                sums[row] = self.add(sums[row], both, address, i)
        return [list(part) for part in zip(*sums, strict=True)]

    def add(self, sums: Values, quad: Values, row: Any, i: int) -> Values:
        """The same with pairs of weights and their magnitudes."""
        four, ones = self.inputs(row, i), constant(self.shorts, 1)
        twos = [self.by_twos(self.pairs(magnitudes, self.with_signs(four, one)), ones) for one, magnitudes in quad]
        return self.added(sums, twos)

    def magnitudes(self, weights: Any) -> Any:
        return self.code.call(f"llvm.abs.v{4 * self.lanes}i8", self.bytes, weights, ir.IntType(1)(0))

    def with_signs(self, inputs: Any, weights: Any) -> Any:
        """The inputs, negative where a weight is."""
        b, zeros = self.code.builder, constant(self.bytes, 0)
        return b.select(b.icmp_signed("<", weights, zeros), b.sub(zeros, inputs), inputs)


class _InOrder(BlockSums):
    """AVX2's 16 registers hold the sums of four rows, if things are done in this order. LLVM would rather gather all
    inputs first, and keep them in memory, so that each step is written as it should be: an assembly of few lines, which
    reads what nothing here writes. What the processor has to load as a vector costs it as much as to compute one, what
    it spreads from a number in memory nothing beside that."""

    def step(self, code: Sequence[str], kind: Any, row: Any, vectors: Values, sums: Values, count: int = 1) -> Values:
        """`count` sums of a row, each a vector of `kind`, by `code`, in which they are $0 and so on, and start with
        `sums` if there are any. After them come two vectors that it may use, the address of the row's inputs, and
        `vectors`."""
        b, results = self.code.builder, ir.LiteralStructType([kind] * (count + 2))
        operands = [row, *vectors, *sums]
        places = ["=&x"] * (count + 2) + ["r"] + ["x"] * len(vectors) + [str(place) for place in range(len(sums))]
        function = ir.FunctionType(results, [operand.type for operand in operands])
        result = b.call(ir.InlineAsm(function, "\n".join(code), ",".join(places), side_effect=True), operands)
        return [b.extract_value(result, place) for place in range(count)]

    def step_by_twos(self, code: Sequence[str], row: Any, vectors: Values, sums: Values) -> Values:
        """One sum of 32 bits by two `vectors` and `code`, which leaves sums of 16 bits in $1 to be summed by twos."""
        ends = ["vpmaddwd $6, $1, $1", "vpaddd $1, $0, $0"] if sums else ["vpmaddwd $6, $1, $0"]
        return self.step([*code, *ends], self.ints, row, [*vectors, constant(self.shorts, 1)], sums)


class SignedSumsInOrder(_InOrder, SignedSums):
    def add(self, sums: Values, quad: Values, row: Any, i: int) -> Values:
        code = [f"vpbroadcastd {4 * i}($3), $1", "vpsignb $4, $1, $1", "vpmaddubsw $1, $5, $1"]
        steps = [self.step_by_twos(code, row, both, sums[part : part + 1]) for part, both in enumerate(quad)]
        return [total for step in steps for total in step]


class ShortSumsInOrder(_InOrder, ShortSums):
    def add(self, sums: Values, quad: Values, row: Any, i: int) -> Values:
        first, second = ("$3", "$2") if sums else ("$0", "$1")
        code = [f"vpbroadcastd {4 * i}($4), $2", f"vpmaddubsw $2, $5, {first}", f"vpmaddubsw $2, $6, {second}"]
        code += ["vpaddw $3, $0, $0", "vpaddw $2, $1, $1"] if sums else []
        return self.step(code, self.shorts, row, quad, sums, len(quad))

    def by_twos(self, shorts: Any, factors: Any) -> Any:
        return self.code.call("llvm.x86.avx2.pmadd.wd", self.ints, shorts, factors)


class PairSumsInOrder(_InOrder, ShortSums):
    """Weights of 6 bits, two groups in a step, after which their sums leave their registers to the next row's."""

    def sums(self, at: Any, rows: Sequence[Any], starts: Starts) -> list[Values]:
        sums: list[Values] = [[] for _ in rows]
        quads = self.quads(at)
        for i, first in quads:
            _, second = next(quads)
            for row, address in enumerate(rows):
                sums[row] = self.add(sums[row], list(zip(first, second, strict=True)), address, i)
        return self.started(zip(*sums, strict=True), starts)

    def add(self, sums: Values, quad: Values, row: Any, i: int) -> Values:
        """The same with a pair of groups for each part."""
        code = [f"vpbroadcastd {4 * i}($3), $1", "vpmaddubsw $1, $4, $1"]
        code += [f"vpbroadcastd {4 * (i + 1)}($3), $2", "vpmaddubsw $2, $5, $2", "vpaddw $2, $1, $1"]
        steps = [self.step_by_twos(code, row, two, sums[part : part + 1]) for part, two in enumerate(quad)]
        return [total for step in steps for total in step]


BITS = 4, 6, 8
_WAYS: dict[str, tuple[Callable[[Code, Scheme, InstructionSet], BlockSums], ...]] = {
    # Of weights of so many bits.
    "avx512vnni": (Dots, Dots, Dots),
    "avx512": (ShortSums, ShortSums, SignedSums),
    "avxvnni": (Dots, Dots, Dots),
    "avx2": (ShortSumsInOrder, PairSumsInOrder, SignedSumsInOrder),
    "i8mm": (MatrixSums, MatrixSums, MatrixSums),
    "dotprod": (SignedDots, SignedDots, SignedDots),
    "any": (PlainDots, PlainDots, PlainDots),
}


def block_sums(code: Code, scheme: Scheme, isa: InstructionSet) -> BlockSums:
    return _WAYS[isa.name][BITS.index(scheme.bits)](code, scheme, isa)
