"""Models lowered for OpenVINO, where its packages are; and what is said where they are not."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.convert import convert
from falcon_runtime.errors import BackendUnavailable, ConversionFailed
from falcon_runtime.models import openvino

from ..small_models import save_checkpoint, small_llama, small_tokenizer

TEXT = list(b"The cat sat on the mat, 12 times")
RUN = """
import sys, torch
from executorch.extension.pybindings.portable_lib import _load_for_executorch
program = _load_for_executorch(sys.argv[1])
rows = [program.forward((torch.tensor([[token]]), torch.tensor([i])))[0].clone() for i, token in enumerate(TEXT)]
torch.save(torch.cat(rows), sys.argv[2])
"""


def has_openvino() -> bool:
    try:
        openvino.check_lowering()
    except BackendUnavailable:
        return False
    return True


def no_such_package(package: str) -> str:
    raise PackageNotFoundError(package)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (no_such_package, r"not installed: pip install 'openvino>=2025\.1,<2026'"),
        (lambda package: "2026.4.1", r"OpenVINO 2026\.4\.1 is not a version"),
        (lambda package: "2025.4.1", r"takes nncf"),
    ],
)
def test_packages_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: Callable[[str], str], words: str
) -> None:
    monkeypatch.setattr(openvino, "version", version)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=words):
        convert(str(tmp_path / "missing"), tmp_path, target="openvino")
    assert not list(tmp_path.iterdir())


def test_recipes_that_it_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "check_lowering", lambda: None)
    with pytest.raises(ConversionFailed, match="no recipe 'int4' for openvino; there are fp32"):
        convert(str(tmp_path / "missing"), tmp_path, recipe="int4", target="openvino")


@pytest.mark.skipif(not has_openvino(), reason=f"not installed: {openvino.RUNTIME}, {openvino.NNCF}")
def test_its_logits_are_transformers(tmp_path: Path) -> None:
    """In a process of its own, as in the trial that ends a conversion."""
    model = small_llama()
    model.lm_head.weight.data[128:] = 0  # It answers in whole characters.
    save_checkpoint(model, tmp_path / "checkpoint")
    folder = convert(str(tmp_path / "checkpoint"), tmp_path, context=64, output=tmp_path / "model", target="openvino")
    code, logits = f"TEXT = {TEXT}{RUN}", tmp_path / "logits.pt"
    subprocess.run([sys.executable, "-c", code, str(folder / "model.pte"), str(logits)], env=os.environ, check=True)
    with torch.no_grad():
        expected = model(torch.tensor([TEXT])).logits[0]
    assert torch.allclose(torch.load(logits), expected, atol=1e-4)
    params = SamplingParams(temperature=0, max_new_tokens=8)
    with FalconRuntime(str(folder), backend="openvino") as runtime:
        answer = [id for chunk in runtime.generate("The cat", params) for id in chunk.token_ids]
    prompt = torch.tensor([small_tokenizer().encode("The cat")])
    greedy = model.generate(prompt, max_new_tokens=8, do_sample=False)[0, prompt.shape[1] :].tolist()
    assert answer == greedy
