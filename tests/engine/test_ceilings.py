"""What the machine can do at best, and how much of it a model reaches."""

from pathlib import Path

import pytest

from falcon_runtime.engine.ceilings import Ceilings, known, reached
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.system.machine import default_threads


def test_what_a_model_reaches(starter_models_dir: Path) -> None:
    manifest = read_manifest(starter_models_dir / "smollm2-135m-instruct")
    # 30 layers of 576 inputs, with 9 heads and 3 for keys and values of 64, and an output layer of 49,152 tokens.
    layer = 576 * (576 + 2 * 192) + 576 * 576 + 3 * 576 * 1536
    products = 32 * (30 * layer + 576 * 49152)
    best = Ceilings(read_bytes_per_second=20e9, products_per_second=100e9)
    share = reached(manifest, {1: 0.01, 32: 0.05}, best)
    assert share.prefill == pytest.approx(products / 0.05 / 100e9)
    # Linears in 4 bits, with two half floats for 32 of them; the output layer in 8 bits, with one; and norms in floats.
    weights = 30 * layer * (0.5 + 4 / 32) + 576 * 49152 * (1 + 2 / 32) + 61 * 576 * 4
    keys_and_values = 2 * 30 * 3 * 64 * 2 * 512
    assert share.decode == pytest.approx((weights + keys_and_values) / 0.01 / 20e9)
    assert share.best == best


def test_a_model_that_reaches_more_than_was_measured_shows_what_the_machine_can_do(starter_models_dir: Path) -> None:
    manifest = read_manifest(starter_models_dir / "smollm2-135m-instruct")
    best, decode, prefill = reached(manifest, {1: 0.01, 32: 0.05}, Ceilings(1e9, 1e9))
    assert (decode, prefill) == (1, 1)
    assert best.read_bytes_per_second == pytest.approx(manifest.bytes_read(manifest.context // 4) / 0.01)
    assert best.products_per_second > 1e9


def test_without_packed_weights_no_products_of_bytes_are_computed(small_model: Path) -> None:
    share = reached(read_manifest(small_model), {1: 0.01, 32: 0.05}, Ceilings(20e9, 100e9))
    assert share.prefill is None
    assert share.best == Ceilings(20e9, 100e9)


def test_they_are_measured_once() -> None:
    best = known(default_threads())
    assert best.read_bytes_per_second > 1e8
    assert best.products_per_second > 1e8
    assert known(default_threads()) is best
