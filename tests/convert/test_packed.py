"""A program that is written directly computes, bit for bit, what torch.export's of the same modules computes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from falcon_runtime.convert import convert
from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.convert.packed import packed_graph
from falcon_runtime.convert.traced.lower import lower
from falcon_runtime.engine.program import Program
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.manifest import PROGRAM, RecipeName, read_manifest
from falcon_runtime.models.recipes import schemes_of

from ..small_models import small_llama, small_tokenizer
from .conftest import filled


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of five layers."""
    folder = tmp_path_factory.mktemp("checkpoint") / "five-layers"
    small_llama(num_hidden_layers=5, tie_word_embeddings=True).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("recipe", "slots"), [("int8", 2), ("int4", 1)])
def test_bits_are_those_of_a_full_export(checkpoint: Path, tmp_path: Path, recipe: RecipeName, slots: int) -> None:
    folder = convert(str(checkpoint), tmp_path, recipe=recipe, slots=slots, context=256, cache=8 if slots > 1 else 16)
    same_bits(checkpoint, folder, tmp_path)


@pytest.mark.slow
def test_bits_of_the_starter_model_are_those_of_a_full_export(
    starter_gguf: Path, starter_models_dir: Path, tmp_path: Path
) -> None:
    same_bits(starter_gguf, starter_models_dir / STARTER.name, tmp_path)


def same_bits(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    manifest, opened = read_manifest(folder), open_checkpoint(checkpoint)
    schemes = schemes_of(manifest.recipe, opened.architecture, opened.has_offsets, manifest.cache_bits)
    full = tmp_path / "full"
    full.mkdir()
    model = filled(opened, schemes, manifest.slots, manifest.context)
    with (full / PROGRAM).open("wb") as file:
        lower(model).write_to_file(file)
    for found, expected in zip(
        *(answers(Program(place, manifest, threads=2), manifest.slots) for place in (folder, full)), strict=True
    ):
        assert np.array_equal(found, expected)
        assert found.std() > 0.1


def answers(program: Program, slots: int) -> list[np.ndarray]:
    """Logits of a prompt of another length in each slot, and of two tokens after each."""
    prompts: Sequence[list[int]] = [[(7 * i + slot) % 250 for i in range(20 - 5 * slot)] for slot in range(slots)]
    starts = [len(prompt) for prompt in prompts]
    first = program.forward(prompts, [0] * slots, range(sum(starts))).copy()
    second = program.forward([[3 + slot] for slot in range(slots)], starts, range(slots)).copy()
    third = program.forward([[5] for _ in range(slots)], [start + 1 for start in starts], range(slots)).copy()
    return [first, second, third]


def test_every_depth_is_written_alike() -> None:
    """The instructions of a deep model are those of a shallow one, and its activations take no more memory."""
    shapes = [replace(STARTER.architecture, layers=layers) for layers in (1, 2, 100)]
    graphs = [packed_graph(shape, schemes_of("int4", shape), slots=3, context=100) for shape in shapes]
    one, two, deep = (graph.program.execution_plan[0] for graph in graphs)
    per_layer = len(two.chains[0].instructions) - len(one.chains[0].instructions)
    assert len(deep.chains[0].instructions) == len(one.chains[0].instructions) + 99 * per_layer
    assert one.non_const_buffer_sizes[1] == deep.non_const_buffer_sizes[1]
    assert deep.non_const_buffer_sizes[2] == shapes[2].kv_cache_bytes(100, slots=3)
    assert {name for name in graphs[2].weights if name.startswith("layers.99.")} == {
        name.replace("layers.0.", "layers.99.") for name in graphs[0].weights if name.startswith("layers.0.")
    }
