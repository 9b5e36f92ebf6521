"""What a checkpoint recommends for sampling is in its manifest, as far as it makes sense."""

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter

from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.models.recommended import recommended_sampling
from falcon_runtime.sampling import SamplingParams

from .conftest import random_llama, write_gguf


@pytest.mark.parametrize(
    ("settings", "sampling"),
    [
        ({}, {}),
        ({"do_sample": True}, {}),
        ({"do_sample": False}, {"temperature": 0}),
        ({"do_sample": None, "temperature": 0.6, "top_p": 0.95}, {"temperature": 0.6, "top_p": 0.95}),
        ({"do_sample": False, "temperature": 0.6, "top_p": 0.95}, {"temperature": 0, "top_p": 0.95}),
        (
            {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1, "max_new_tokens": 512, "max_length": 20},
            {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1, "max_new_tokens": 512},
        ),
        ({"temperature": -1, "top_k": -1, "top_p": 0, "min_p": 2, "repetition_penalty": 0}, {}),
        ({"temperature": "0.6", "top_k": 2.5, "top_p": None, "min_p": [0.1], "repetition_penalty": True}, {}),
        ({"temperature": float("nan"), "top_p": float("inf"), "top_k": 10**400}, {}),
        ({"max_new_tokens": 1}, {}),
        ({"max_new_tokens": 1024}, {}),
    ],
)
def test_what_is_recommended(settings: dict[str, Any], sampling: dict[str, float]) -> None:
    found = recommended_sampling(settings, context=1024)
    assert found == sampling
    assert SamplingParams(**found).model_dump(include=set(found)) == sampling


def test_what_gguf_metadata_recommends(tmp_path: Path) -> None:
    def edit(writer: GGUFWriter) -> None:
        writer.add_sampling_temp(0.7)
        writer.add_sampling_top_k(40)
        writer.add_sampling_top_p(0.8)
        writer.add_sampling_min_p(0.05)
        writer.add_sampling_penalty_repeat(float("inf"))

    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", random_llama(), edit=edit))
    expected = {"temperature": 0.7, "top_k": 40, "top_p": 0.8, "min_p": 0.05}
    assert recommended_sampling(checkpoint.generation, 256) == expected
