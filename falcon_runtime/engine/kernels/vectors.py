"""Vectors of 16 numbers in LLVM's own code, for the inner loops of the kernels: numba makes vectors of loops by itself,
but decides by itself too what stays in registers."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

LANES = 16
LINE = 64
"""Bytes that memory brings at a time."""
FLOAT, HALF, BYTE, SHORT, INT, LONG = ir.FloatType(), ir.HalfType(), *(ir.IntType(bits) for bits in (8, 16, 32, 64))
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)


def constant(kind: Any, number: int | float) -> Any:
    """A vector of one number."""
    return ir.Constant(kind, [number] * kind.count)


class Code:
    """LLVM's builder with what the kernels need. Addresses are integers."""

    def __init__(self, builder: Any):
        self.builder = builder

    def offset(self, address: Any, count: Any, size: int) -> Any:
        """`address` plus `count` times `size` bytes."""
        count = LONG(count) if isinstance(count, int) else count
        return self.builder.add(address, self.builder.mul(count, LONG(size)))

    def load(self, address: Any, kind: Any) -> Any:
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()))
        value.align = 1
        return value

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer())).align = 1

    def load_floats(self, address: Any, bits: int, lanes: int = LANES) -> Any:
        """So many floats of 16 or 32 bits, or signed integers of 8, as floats of 32."""
        floats = ir.VectorType(FLOAT, lanes)
        numbers = self.load(address, ir.VectorType({8: BYTE, 16: HALF, 32: FLOAT}[bits], lanes))
        if bits == 8:
            return self.builder.sitofp(self.builder.sext(numbers, ir.VectorType(INT, lanes)), floats)
        return numbers if bits == 32 else self.builder.fpext(numbers, floats)

    def prefetch(self, address: Any) -> None:
        """Asks memory for what lies at an address, and does not wait for it. It comes to the second level of the cache:
        the first one waits for few lines at a time."""
        place = self.builder.inttoptr(address, BYTE.as_pointer())
        self.call("llvm.prefetch.p0", ir.VoidType(), place, INT(0), INT(2), INT(1))

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        """One of LLVM's intrinsic functions."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(self.builder.module.declare_intrinsic(name, fnty=kind), arguments)

    def spread(self, address: Any, kind: Any, lanes: int = LANES) -> Any:
        """One number of memory, so many times."""
        return self.fill(self.load(address, kind), lanes)

    def fill(self, number: Any, lanes: int = LANES) -> Any:
        """A number, so many times."""
        empty = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
        first = self.builder.insert_element(empty, number, INT(0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(INT, lanes), [0] * lanes))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once."""
        return self.call(f"llvm.fma.v{a.type.count}f32", a.type, a, b, c)

    def variable(self, value: Any) -> Any:
        """A place with `value` for `builder.load` and `builder.store`; LLVM keeps it in a register."""
        return cgutils.alloca_once_value(self.builder, value)

    def align_stack(self) -> None:
        """Lets vectors that no register is left for lie in one line of the cache each. LLVM puts them wherever the
        stack happens to be, unless a function has something that needs more."""
        place = cgutils.alloca_once(self.builder, ir.ArrayType(BYTE, LINE))
        place.align = LINE
        kept = ir.FunctionType(ir.VoidType(), [place.type])
        self.builder.call(ir.InlineAsm(kept, "", "r", side_effect=True), [place])

    def zeros(self, kind: Any = FLOATS) -> Any:
        return constant(kind, 0 if kind is INTS else 0.0)
