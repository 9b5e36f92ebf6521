"""Models for Qualcomm's NPUs, as far as that goes without their SDK: what stands in for it takes every operator that
ExecuTorch can describe to it, and compiles nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from falcon_runtime.convert.qnn.chips import check_chip
from falcon_runtime.convert.qnn.llama import EXAMPLE, StaticLlama
from falcon_runtime.convert.stock.filling import filled
from falcon_runtime.convert.stock.schemes import stock_schemes
from falcon_runtime.errors import ConversionFailed

from ..small_models import small_llama
from .conftest import random_llama

CHIP, CONTEXT = "SM8650", 32
TEXTS = [list(b"The cat sat on the mat, 12 times."), list("À propos: 你好!".encode())]


@pytest.fixture(scope="module", autouse=True)
def no_sdk() -> Iterator[None]:
    """Nothing is downloaded, and this stays so if something forgets to check for the SDK."""
    from executorch.backends.qualcomm.utils import qnn_sdk_setup

    def fail() -> bool:
        raise AssertionError("ExecuTorch would download Qualcomm's SDK")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qnn_sdk_setup, "_install_qnn_sdk", fail)
        yield
