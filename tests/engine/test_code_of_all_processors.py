"""What cannot run here is compiled all the same: the code of each instruction set has the instructions it is for."""

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

from falcon_runtime.engine.kernels.tile import write_tile
from falcon_runtime.models.recipes import PACKED, Scheme
from falcon_runtime.system.instruction_sets import INSTRUCTION_SETS, InstructionSet

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
INSTRUCTIONS = {
    # Of weights of 4 and of 8 bits.
    "avx512vnni": (X86, "vpdpbusd", "zmm", "vpdpbusd"),
    "avx512": (X86, "vpmaddubsw", "zmm", "vpmaddubsw"),
    "avxvnni": (X86, "vpdpbusd", "ymm", "vpdpbusd"),
    "avx2": (X86, "vpmaddubsw", "ymm", "vpsignb"),
    "i8mm": (ARM, "usmmla", "v", "usmmla"),
    "dotprod": (ARM, "sdot", "v", "sdot"),
    "any": (X86, "pmaddwd", "xmm", "pmaddwd"),
}


def assembly(scheme: Scheme, isa: InstructionSet, triple: str) -> str:
    """Of a tile of eight rows."""
    module = ir.Module()
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 9), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    write_tile(builder, 8, scheme, isa, function.args)
    builder.ret_void()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    features = ",".join(f"+{feature}" for feature in isa.needs)
    machine = llvm.Target.from_triple(triple).create_target_machine(features=features, opt=2)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    return machine.emit_assembly(parsed)


@pytest.mark.parametrize("scheme", PACKED, ids=str)
@pytest.mark.parametrize("isa", INSTRUCTION_SETS, ids=lambda isa: isa.name)
def test_a_tile_has_the_instructions_of_its_set(isa: InstructionSet, scheme: Scheme) -> None:
    triple, four_bits, registers, eight_bits = INSTRUCTIONS[isa.name]
    lines = [line.split() for line in assembly(scheme, isa, triple).splitlines()]
    wanted = eight_bits if scheme.bits == 8 else four_bits
    uses = [" ".join(line) for line in lines if wanted in line[:2]]  # Perhaps after {vex}.
    assert uses, wanted
    assert all(registers in use for use in uses)
