"""What stands around the kernels: compiled code that is kept, and the check of ExecuTorch's binary interface."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from numba import cfunc, types

from falcon_runtime import FalconRuntime
from falcon_runtime.engine.kernels import abi, abi_check, compiled
from falcon_runtime.engine.kernels.compiled import addresses
from falcon_runtime.engine.module import Module
from falcon_runtime.errors import UnsupportedExecuTorch
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.manifest import Manifest
from tests.test_runtime import newest_worker


def multiply_by(factor: int) -> Mapping[str, Any]:
    @cfunc(types.int64(types.int64))
    def multiply(number: Any) -> Any:
        return number * factor

    @cfunc(types.int64(types.int64))
    def negative(number: Any) -> Any:
        return -number * factor

    return {"multiply": multiply, "negative": negative}


def multiplied(factor: int) -> tuple[bool, list[int]]:
    """Whether something was compiled, and what the functions make of 7."""
    compiling: list[None] = []
    found = addresses(f"{__name__}:multiply_by", factor, announce=lambda: compiling.append(None))
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    return bool(compiling), [call(found[name])(7) for name in ("multiply", "negative")]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled code, which is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return compiled.folder()


def test_what_was_compiled_is_kept(kept: Path) -> None:
    assert multiplied(3) == (True, [21, -21])
    assert multiplied(5) == (True, [35, -35])
    assert multiplied(3) == (False, [21, -21])
    assert multiplied(5) == (False, [35, -35])
    assert len(list(kept.glob("*.zip"))) == 2


def truncated(whole: bytes) -> bytes:
    return whole[:-100]


def changed(whole: bytes) -> bytes:
    """With another byte in the middle, which is code."""
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda whole: b"", truncated, changed], ids=["empty", "truncated", "changed"])
def test_a_damaged_file_is_made_anew(kept: Path, damage: Callable[[bytes], bytes]) -> None:
    multiplied(3)
    (file,) = kept.glob("*.zip")
    file.write_bytes(damage(file.read_bytes()))
    assert multiplied(3) == (True, [21, -21])
    assert multiplied(3) == (False, [21, -21])


def test_code_of_another_processor_or_source_is_not_taken(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    multiplied(3)
    monkeypatch.setattr(compiled, "_surroundings", lambda: "another processor")
    assert multiplied(3) == (True, [21, -21])
    assert len(list(kept.glob("*.zip"))) == 2


def test_without_a_folder_code_is_compiled_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    for _ in range(2):
        assert multiplied(3) == (True, [21, -21])


def test_two_processes_at_once_do_no_harm(kept: Path) -> None:
    code = "from tests.engine.test_kernels import multiplied; print(multiplied(3)[1])"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == [b"[21, -21]\n"] * 2
    assert multiplied(3) == (False, [21, -21])


@pytest.mark.parametrize(
    ("offset", "other"), [("SIZES", 8), ("STRIDES", 24), ("DATA", 32), ("NUMEL", 48), ("TYPE", 40)]
)
def test_another_layout_is_a_sentence(offset: str, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    abi_check.check(Module)
    monkeypatch.setattr(abi, offset, other)
    with pytest.raises(UnsupportedExecuTorch, match=r"calls kernels in another way than the one that was tested: \S"):
        abi_check.check(Module)


def test_another_layout_of_planned_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shorter(ctypes.Structure):
        _fields_ = (("unused", abi.Buffer * 15), *abi.PlannedMemory._fields_[1:])

    monkeypatch.setattr(abi, "PlannedMemory", Shorter)
    with pytest.raises(UnsupportedExecuTorch, match="cannot load the method"):
        abi_check.check(Module)


def test_caches_take_no_memory_before_there_is_something_in_them(starter_models_dir: Path) -> None:
    with FalconRuntime(STARTER.name, models_dir=starter_models_dir) as runtime:
        runtime.load()
        manifest = runtime.manifest
        assert isinstance(manifest, Manifest)
        whole = manifest.shape.kv_cache_bytes(manifest.context, manifest.slots, manifest.cache_bits)
        assert newest_worker().memory_full_info().uss < whole


def test_another_version_is_a_sentence_that_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi_check, "version", lambda package: "1.6.0")
    with pytest.raises(UnsupportedExecuTorch, match=r"ExecuTorch 1\.6\.0 .*1\.5\.1.*pip install executorch==1\.5\.1"):
        abi_check.check(Module)


@pytest.mark.parametrize("function", ["REGISTER_KERNELS", "MODULE_LOAD", "METHOD_EXECUTE", "METHOD_OUTPUT"])
def test_functions_that_are_not_there_are_a_sentence(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, function, "_ZN10executorch7runtime5otherEv")
    if function == "REGISTER_KERNELS":  # As if it were the first time.
        monkeypatch.setattr(abi_check, "_registered", abi_check._registered.__wrapped__)
    with pytest.raises(UnsupportedExecuTorch, match=r"undefined symbol: .*other"):
        abi_check.check(Module)


def test_a_start_with_kept_kernels_needs_neither_torch_nor_numba(small_model: Path) -> None:
    """Their imports would take most of the time until an answer, and most of an engine's memory."""
    code = (
        "import sys; from pathlib import Path; from falcon_runtime import SamplingParams;"
        "from falcon_runtime.engine import worker; from falcon_runtime.engine.sampler import Sampler;"
        "program = worker.load(Path(sys.argv[1]), 1, '', lambda: None)[0].program;"
        "(logits,) = program.forward([[1, 2]], [0], [1]);"
        "[Sampler(SamplingParams(temperature=t, logprobs=3), [1]).sample(logits) for t in (0, 1)];"
        "print(logits.shape, {'torch', 'numba'} & set(sys.modules))"
    )
    first, second = [
        subprocess.run([sys.executable, "-c", code, small_model], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert second == "(320,) set()\n", first


def test_kept_code_runs_where_numba_was_imported_and_has_compiled_nothing() -> None:
    """Then nobody but us gives it the functions of numba's that it names."""
    code = (
        "import numba; import numpy as np; from falcon_runtime import SamplingParams;"
        "from falcon_runtime.engine.sampler import Sampler;"
        "print(Sampler(SamplingParams(top_k=2, temperature=1), []).next(np.arange(3, dtype=np.float32)) > 0)"
    )
    for _ in range(2):  # The second one certainly finds it kept.
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout == "True\n"


def test_a_program_tells_the_types_and_shapes_that_it_takes_and_returns() -> None:
    abi_check.check(Module)
    (tensor,), (result,) = Module(str(abi_check.PROGRAM)).signature()
    assert tensor == result == (abi.FLOAT, list(abi_check.ROOM))
