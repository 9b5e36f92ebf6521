"""What a quantized program computes is what its recipe says, and close to the model it was made from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from falcon_runtime.convert import convert
from falcon_runtime.convert.checkpoint import open_checkpoint
from falcon_runtime.convert.llama import Llama, scheme_of
from falcon_runtime.convert.quantize import FP32, INT4_GROUPS, INT8, RECIPES, Scheme, quantize
from falcon_runtime.convert.weights import load
from falcon_runtime.engine.program import Program
from falcon_runtime.errors import ConversionFailed
from falcon_runtime.manifest import RecipeName, read_manifest

from ..conftest import small_llama

TOKENS = [5, 6, 7, 8, 9, 10, 11, 200, 3, 17]


@pytest.mark.parametrize(("recipe", "least_correlation"), [("int8", 0.995), ("int4", 0.9)])
def test_program_computes_its_recipe(
    small_checkpoint: Path, tmp_path: Path, recipe: RecipeName, least_correlation: float
) -> None:
    folder = convert(str(small_checkpoint), tmp_path, recipe=recipe)
    program = Program(folder, read_manifest(folder), threads=2)
    found = program.forward([TOKENS], [0], range(len(TOKENS)))

    checkpoint = open_checkpoint(small_checkpoint)
    model = Llama(checkpoint.config, RECIPES[recipe], slots=1, context=256).eval()
    load(model, checkpoint)
    count = len(TOKENS)
    with torch.no_grad():
        eager = model(
            torch.tensor([TOKENS]), torch.arange(count), torch.tensor([0]), torch.tensor([count]), torch.arange(count)
        )[0].numpy()
        original = small_llama()(torch.tensor([TOKENS])).logits[0].numpy()
    # A value on the edge between two integers may fall to either side, so a few logits differ by one such step.
    assert np.abs(found - eager).mean() < 0.005 * original.std()
    assert np.corrcoef(found.ravel(), original.ravel())[0, 1] > least_correlation


@pytest.mark.parametrize("scheme", [INT8, INT4_GROUPS, Scheme(bits=8, group=32)])
def test_quantized_weights_are_within_half_a_step(scheme: Scheme) -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    integers, scale = quantize(weight, scheme)
    low, high = scheme.range
    assert integers.min() >= low
    assert integers.max() <= high
    step = scale.repeat_interleave(64 // scale.shape[1], 1)
    assert scale.shape == (16, 64 // (scheme.group or 64))
    # Half a step everywhere but at the largest value, which is cut off by as much, and by what bfloat16 rounds off.
    assert ((integers * step - weight).abs() <= step * 0.54).all()


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConversionFailed, match=r"groups of 32; one has 48.*fp32"):
        INT4_GROUPS.groups(48)


def test_wide_layers_stay_float() -> None:
    scheme = scheme_of(11, RECIPES["int8"], ("*.qkv", "1.down"))
    assert scheme("qkv") == FP32
    assert scheme("down") == INT8
    assert scheme_of(1, RECIPES["int8"], ("*.qkv", "1.down"))("down") == FP32
