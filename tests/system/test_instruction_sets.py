"""What a processor has, what is used of it, and that a model computes the same whichever it is."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from falcon_runtime.convert import convert
from falcon_runtime.errors import UnsupportedProcessor
from falcon_runtime.system import instruction_sets
from falcon_runtime.system.instruction_sets import available, chosen, target

ZEN_4 = "+avx,+avx2,+fma,+f16c,+avx512f,+avx512bw,+avx512vl,+avx512vnni,+avx512bf16,+sse4.2,-avxvnni,-amx-tile"
ALDER_LAKE = "+avx,+avx2,+fma,+f16c,+avxvnni,-avx512f"
SKYLAKE_X = "+avx,+avx2,+fma,+f16c,+avx512f,+avx512bw,+avx512vl,-avx512vnni"
GRAVITON = "+neon,+dotprod,+fullfp16"
GRAVITON_3 = f"{GRAVITON},+i8mm,+sve"


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FALCON_ISA", raising=False)


def on(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction_sets, "processor", lambda: ("triple", "some-cpu", features))


@pytest.mark.parametrize(
    ("features", "names"),
    [
        (ZEN_4, ["avx512vnni", "avx512", "avx2", "any"]),
        (ALDER_LAKE, ["avxvnni", "avx2", "any"]),
        (SKYLAKE_X, ["avx512", "avx2", "any"]),
        (GRAVITON, ["dotprod", "any"]),
        (GRAVITON_3, ["i8mm", "dotprod", "any"]),
        ("", ["any"]),
    ],
)
def test_the_best_set_of_a_processor_is_used(features: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    on(features, monkeypatch)
    assert [one.name for one in available()] == names
    assert chosen().name == names[0]
    assert target() == ("triple", "some-cpu", features)


@pytest.mark.parametrize(
    ("there", "best"),
    [
        ("fp asimd crc32 asimddp asimdhp i8mm", "i8mm"),
        ("fp asimd crc32 asimddp asimdhp", "dotprod"),
        ("fp asimd crc32", "any"),
    ],
)
def test_what_llvm_does_not_see_of_an_arm_processor(there: str, best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports no dot product for a Graviton, which has it."""
    seen = "aarch64-unknown-linux-gnu", "neoverse-n1", "+crc,+neon,-sve"
    monkeypatch.setattr(instruction_sets, "seen_by_llvm", lambda: seen)
    monkeypatch.setattr(instruction_sets, "proc_value", lambda file, key: there)
    monkeypatch.setattr(instruction_sets, "processor", instruction_sets.processor.__wrapped__)
    assert chosen().name == best
    assert target()[:2] == seen[:2]
    assert ("+dotprod" in target()[2]) == (best != "any")


def test_a_set_can_be_asked_for_and_the_rest_stays_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    on(ZEN_4, monkeypatch)
    monkeypatch.setenv("FALCON_ISA", "avx2")
    assert chosen().title == "AVX2"
    assert target() == ("triple", "generic", "+avx,+avx2,+fma,+f16c,+sse4.2,-avxvnni,-amx-tile")
    monkeypatch.setenv("FALCON_ISA", "avx512")
    assert "+avx512bw" in target()[2]
    assert "+avx512vnni" not in target()[2]


def test_one_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    on(ALDER_LAKE, monkeypatch)
    monkeypatch.setenv("FALCON_ISA", "avx512")
    with pytest.raises(UnsupportedProcessor, match=r"'avx512', which this processor does not have\..*avxvnni, avx2"):
        chosen()
    monkeypatch.setenv("FALCON_ISA", "mmx")
    with pytest.raises(UnsupportedProcessor, match="'mmx', which is unknown"):
        chosen()


LOGITS = """
import sys, numpy as np
from pathlib import Path
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.engine.program import Program
folder = Path(sys.argv[1])
program = Program(folder, read_manifest(folder), 2)
np.save(sys.argv[2], program.forward([[*range(1, 40)], []], [0, 0], [5, 38]))
"""


def test_a_model_computes_the_same_with_each(small_checkpoint: Path, tmp_path: Path) -> None:
    """But for the last bits of sums of floats, which are in another order: one of many inputs may be rounded to another
    integer for them."""
    small = convert(str(small_checkpoint), tmp_path, "int4", slots=2, output=tmp_path / "model")
    found = {}
    for one in available():
        env = os.environ | {"FALCON_ISA": one.name}
        to = tmp_path / f"{one.name}.npy"
        subprocess.run([sys.executable, "-c", LOGITS, small, to], env=env, check=True, capture_output=True)
        found[one.name] = np.load(to)
    best = found[chosen().name]
    for logits in found.values():
        np.testing.assert_allclose(logits, best, atol=0.02 * np.abs(best).max(), rtol=0)
