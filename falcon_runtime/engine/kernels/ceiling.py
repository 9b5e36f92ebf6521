"""Loops that do nothing but what a model's time goes into: reading memory, and multiplying bytes."""

from collections.abc import Mapping
from typing import Any

from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

from ...models.recipes import INT4
from ...system.instruction_sets import InstructionSet
from .block_sums import block_sums
from .vectors import INT, LONG, Code, constant


def ceilings(isa: InstructionSet, vectors: int) -> Mapping[str, Any]:
    """`read(address, count)` loads `count` times `vectors` registers from there on, and `multiply(address, count)`
    multiplies the bytes of as many. What comes out is of no use, and returned so that it is computed. There should be
    enough `vectors` that none is waited for."""
    vector = ir.VectorType(INT, isa.lanes)

    def looped(step: Any) -> Any:
        @intrinsic
        def run(typing: Any, address: Any, count: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                code, (place, often) = Code(builder), args
                totals = [code.variable(code.load(place, vector)) for _ in range(vectors)]
                with cgutils.for_range(builder, often) as loop:
                    for i, total in enumerate(totals):
                        at = builder.add(place, builder.mul(loop.index, LONG(4 * isa.lanes * vectors)))
                        builder.store(step(code, builder.load(total), code.offset(at, i, 4 * isa.lanes)), total)
                last = builder.load(totals[0])
                for total in totals[1:]:
                    last = builder.xor(last, builder.load(total))
                return builder.zext(builder.extract_element(last, INT(0)), LONG)

            return types.int64(types.int64, types.int64), code

        return run

    def read_step(code: Code, total: Any, at: Any) -> Any:
        return code.builder.xor(total, code.load(at, vector))

    def multiply_step(code: Code, total: Any, at: Any) -> Any:
        sums = block_sums(code, INT4, isa)
        return code.builder.bitcast(sums.multiply(total, constant(sums.bytes, 3)), vector)

    read_loop, multiply_loop = looped(read_step), looped(multiply_step)

    @cfunc(types.int64(types.int64, types.int64))
    def read(address: Any, count: Any) -> Any:
        return read_loop(address, count)

    @cfunc(types.int64(types.int64, types.int64))
    def multiply(address: Any, count: Any) -> Any:
        return multiply_loop(address, count)

    return {"read": read, "multiply": multiply}
