"""Models for Qualcomm's NPUs, as far as that goes without their SDK: what stands in for it takes every operator that
ExecuTorch can describe to it, and compiles nothing. With the SDK, a slow test compiles one and runs it on its
simulator."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from falcon_runtime.convert import convert
from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.convert.qnn.chips import check_recipe, known_chip
from falcon_runtime.convert.stock.filling import filled
from falcon_runtime.convert.stock.schemes import stock_schemes
from falcon_runtime.convert.stock.static import StaticLlama, static_constants
from falcon_runtime.errors import BackendUnavailable, ConversionFailed
from falcon_runtime.models.qnn import check_lowering

from ..small_models import save_checkpoint, small_llama

CHIP, CONTEXT = "SM8650", 32
TEXT = list(b"The cat sat on the mat, 12 times")
OTHER = list("À propos: 你好!".encode())


def has_sdk() -> bool:
    try:
        check_lowering()
    except BackendUnavailable:
        return False
    return True


@pytest.fixture(scope="module", autouse=True)
def no_download() -> Iterator[None]:
    """Whatever forgets to look for the SDK fails here, in place of getting one."""
    from executorch.backends.qualcomm.utils import qnn_sdk_setup

    def fail() -> bool:
        raise AssertionError("ExecuTorch would download Qualcomm's SDK")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qnn_sdk_setup, "_install_qnn_sdk", fail)
        patch.setenv("QNN_SDK_ROOT", os.environ.get("QNN_SDK_ROOT", ""))
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of numbers small enough that attention does not magnify what rounding does to them."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(small_llama(num_hidden_layers=1, initializer_range=0.1), folder)
    return folder


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> StaticLlama:
    opened = open_checkpoint(checkpoint)
    return filled(opened, stock_schemes("fp32", opened.architecture), CONTEXT, StaticLlama)


@pytest.fixture(scope="module")
def expected() -> Tensor:
    """transformers' logits."""
    with torch.no_grad():
        logits: Tensor = small_llama(num_hidden_layers=1, initializer_range=0.1)(torch.tensor([TEXT])).logits[0]
    return logits


@pytest.fixture(scope="module")
def graph(model: StaticLlama) -> GraphModule:
    """In 8 bits."""
    from falcon_runtime.convert.qnn.quantize import quantized

    return quantized(model, CHIP, 8, [TEXT])


def run(program: Any, first: int = 0) -> Tensor:
    """Logits of TEXT, token by token."""
    with torch.no_grad():
        rows = [program(torch.tensor([[token]]), torch.tensor([first + i])) for i, token in enumerate(TEXT[first:])]
    return torch.cat(rows)


def error(logits: Tensor, expected: Tensor) -> float:
    """Root mean square, as a part of the logits' standard deviation."""
    return float((logits - expected).square().mean().sqrt() / expected.std())


def test_the_static_model_is_the_model(model: StaticLlama, expected: Tensor) -> None:
    assert torch.allclose(run(model), expected, atol=1e-4)
    assert torch.allclose(run(model, first=20), expected[20:], atol=1e-4)  # It goes back to a position.


def test_the_quantized_graph_agrees(graph: GraphModule, model: StaticLlama, expected: Tensor) -> None:
    from falcon_runtime.convert.qnn.quantize import quantized

    assert not any(cache.any() for name, cache in graph.named_buffers() if name.endswith((".keys", ".values")))
    in_8_bits = error(run(graph), expected)
    assert in_8_bits < 0.03
    assert in_8_bits < error(run(quantized(model, CHIP, 4, [TEXT])), expected) < 0.25


def test_calibration_is_what_the_ranges_come_from(graph: GraphModule, model: StaticLlama, expected: Tensor) -> None:
    from falcon_runtime.convert.qnn.quantize import quantized

    def scales(graph: GraphModule) -> list[float]:
        quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
        return [node.args[1] for node in graph.graph.nodes if node.target == quantize]

    told = list[tuple[int, int]]()
    other = quantized(model, CHIP, 8, [OTHER, OTHER[:3]], lambda *progress: told.append(progress))
    assert told[-1] == (len(OTHER) + 3, len(OTHER) + 3)
    assert len(scales(other)) == len(scales(graph))
    assert scales(other) != scales(graph)
    assert error(run(graph), expected) < error(run(other), expected)


def test_what_the_compiler_is_told() -> None:
    from executorch.backends.qualcomm.serialization.qc_schema_serialize import flatbuffer_to_option

    from falcon_runtime.convert.qnn.lower import compile_spec

    (spec,) = compile_spec(CHIP)
    option = flatbuffer_to_option(spec.value)
    assert option.soc_info.soc_model.name == CHIP
    assert option.soc_info.htp_info.htp_arch == 75
    assert option.backend_options.htp_options.precision.name == "kHtpQuantized"
    assert not option.online_prepare


class StandIn:
    """In the place of ExecuTorch's `QnnManager`, the first thing that needs the SDK."""

    def __init__(self) -> None:
        self.compiled: list[str] = []
        """The kinds of all operators that it was given to compile."""

    def InitContext(self, graphs: list[str]) -> None:
        pass

    def DestroyContext(self) -> None:
        pass

    def Destroy(self) -> None:
        pass

    def IsTensorDump(self) -> bool:
        return False

    def IsNodeSupportedByBackend(self, operators: list[Any]) -> bool:
        return True

    def GetGraphNames(self) -> list[str]:
        return ["forward"]

    def Compile(self, graphs: list[str], operators: list[list[Any]]) -> bytes:
        self.compiled += [operator.GetOpType() for operator in operators[0]]
        return b"compiled"


@pytest.mark.slow
def test_all_of_the_model_is_the_npus(graph: GraphModule, monkeypatch: pytest.MonkeyPatch) -> None:
    from executorch.backends.qualcomm.utils.qnn_manager_lifecycle import QnnManagerRegistry

    from falcon_runtime.convert.qnn.lower import lowered

    manager = StandIn()

    def get_or_create(registry: Any, backend: Any, option: bytes) -> StandIn:
        registry._registry[backend] = manager
        return manager

    monkeypatch.setattr(QnnManagerRegistry, "get_or_create_qnn_manager", get_or_create)
    program = lowered(graph, CHIP, static_constants({"get_max_context_len": CONTEXT}))
    plan = program.executorch_program.execution_plan[0]
    assert ([delegate.id for delegate in plan.delegates], plan.operators) == (["QnnBackend"], [])
    tensors = [plan.values[i].val for i in (*plan.inputs, *plan.outputs)]
    assert [tensor.sizes for tensor in tensors] == [[1, 1], [1], [1, 320]]
    # Linear layers are convolutions: four of the layer, and the output layer. Keys and values are written in place.
    kinds = {kind: manager.compiled.count(kind) for kind in ("Conv2d", "FullyConnected", "ScatterNd", "RmsNorm")}
    assert kinds == {"Conv2d": 5, "FullyConnected": 0, "ScatterNd": 2, "RmsNorm": 3}


def test_a_process_that_can_compile_downloads_nothing() -> None:
    code = "import falcon_runtime.convert.qnn, os; print(repr(os.environ['QNN_SDK_ROOT']))"
    environment = {name: value for name, value in os.environ.items() if name != "QNN_SDK_ROOT"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "''"


def test_without_the_sdk_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    with pytest.raises(BackendUnavailable, match="QNN_SDK_ROOT is not set"):
        convert(str(tmp_path / "missing"), tmp_path, target="qnn", chip=CHIP)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"target": "qnn"}, r"none is named.*SM8650.*SM8750"),
        ({"target": "qnn", "chip": "SM1"}, r"no chip 'SM1'.*QCM6490.*SM8850"),
        ({"target": "stock", "chip": CHIP}, r"--soc is the chip of a model --for qnn"),
    ],
)
def test_a_chip_that_is_not_known(tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ConversionFailed, match=words):
        convert(str(tmp_path / "missing"), tmp_path, **asked)


def test_an_npu_without_4_bits() -> None:
    assert known_chip("sm8350") == "SM8350"
    check_recipe("SM8350", "int8")
    with pytest.raises(ConversionFailed, match=r"SM8350 \(HTP v68\).*--recipe int8"):
        check_recipe("SM8350", "int4")


@pytest.mark.slow
@pytest.mark.skipif(not has_sdk(), reason="Qualcomm's SDK is not installed (QNN_SDK_ROOT)")
def test_a_model_on_the_simulator(checkpoint: Path, tmp_path: Path, expected: Tensor) -> None:
    """In a process that finds the SDK's libraries, as the engine's does."""
    from falcon_runtime.models.qnn import library_path

    folder = convert(
        str(checkpoint), tmp_path, recipe="int8", context=CONTEXT, output=tmp_path / "m", target="qnn", chip=CHIP
    )
    code = f"""
import torch
from executorch.extension.pybindings.portable_lib import _load_for_executorch
program = _load_for_executorch({str(folder / "model.pte")!r})
rows = [program.forward((torch.tensor([[t]]), torch.tensor([i])))[0].clone() for i, t in enumerate({TEXT})]
torch.save(torch.cat(rows), {str(tmp_path / "logits.pt")!r})
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | library_path(), check=True)
    assert error(torch.load(tmp_path / "logits.pt"), expected) < 0.05
