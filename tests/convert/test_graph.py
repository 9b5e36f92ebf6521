"""A program put together from a template computes, bit for bit, what the whole model's own export computes."""

import lzma
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from falcon_runtime.catalog import STARTER
from falcon_runtime.convert import convert, templates
from falcon_runtime.convert.checkpoint import open_checkpoint
from falcon_runtime.convert.lower import lower, trace
from falcon_runtime.convert.prepare_graphs import catalogue_graphs
from falcon_runtime.convert.stack import shortened
from falcon_runtime.engine.program import Program
from falcon_runtime.errors import ConversionFailed
from falcon_runtime.manifest import PROGRAM, RecipeName, read_manifest
from falcon_runtime.recipes import schemes_of

from ..conftest import small_llama, small_tokenizer
from .conftest import filled

GRAPHS = catalogue_graphs([])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five layers, of which three are traced."""
    folder = tmp_path_factory.mktemp("checkpoint") / "five-layers"
    small_llama(num_hidden_layers=5, tie_word_embeddings=True).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("recipe", "slots"), [("int8", 2), ("int4", 1)])
def test_bits_are_those_of_a_full_export(checkpoint: Path, tmp_path: Path, recipe: RecipeName, slots: int) -> None:
    folder = convert(str(checkpoint), tmp_path, recipe=recipe, slots=slots, context=256)
    same_bits(checkpoint, folder, tmp_path)


@pytest.mark.slow
def test_bits_of_the_starter_model_are_those_of_a_full_export(
    starter_gguf: Path, starter_models_dir: Path, tmp_path: Path
) -> None:
    same_bits(starter_gguf, starter_models_dir / STARTER.name, tmp_path)


def same_bits(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    manifest, opened = read_manifest(folder), open_checkpoint(checkpoint)
    schemes = schemes_of(manifest.recipe, opened.architecture, opened.has_offsets)
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


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(key, id=key.file_name, marks=() if shape == STARTER.architecture else pytest.mark.slow)
        for key, (shape, _) in GRAPHS.items()
    ],
)
def test_shipped_templates_are_what_tracing_makes_today(tmp_path: Path, key: templates.Key) -> None:
    made = templates.write(trace(*GRAPHS[key]), key, tmp_path)
    shipped = templates.FOLDER / key.file_name
    assert shipped.is_file(), "raise no version without: python -m falcon_runtime graphs"
    assert lzma.decompress(made.read_bytes()) == lzma.decompress(shipped.read_bytes())
    assert shipped.stat().st_size < 10_000


def test_the_catalogues_templates_are_all_there_and_no_others() -> None:
    assert {key.file_name for key in GRAPHS} == {path.name for path in templates.FOLDER.glob("*.xz")}, (
        "remove what is too many, and run: python -m falcon_runtime graphs"
    )
    for key in GRAPHS:
        assert templates.is_usable(templates.FOLDER / key.file_name, key)


def test_one_template_serves_every_depth() -> None:
    deep = replace(STARTER, architecture=replace(STARTER.architecture, layers=50))
    for recipe in ("int8", "int4"):
        entries = [entry.with_recipe(recipe) for entry in (STARTER, deep)]
        keys = [templates.key_of_graph(entry.architecture, entry.schemes) for entry in entries]
        assert keys[0] == keys[1]
    assert shortened("aaaaabbccccc") == tuple("aaabbccc")


@pytest.fixture
def template(tmp_path: Path) -> tuple[Path, templates.Key]:
    key = templates.key_of_graph(STARTER.architecture, STARTER.schemes)
    path = tmp_path / key.file_name
    path.write_bytes((templates.FOLDER / key.file_name).read_bytes())
    return path, key


def test_a_template_of_another_executorch_is_refused(template: tuple[Path, templates.Key]) -> None:
    path, key = template
    content = lzma.decompress(path.read_bytes()).replace(b'"executorch":"1.5.1"', b'"executorch":"1.4.0"')
    path.write_bytes(lzma.compress(content))
    with pytest.raises(ConversionFailed, match=r"executorch 1\.4\.0, and 1\.5\.1 is installed"):
        templates.read(path, key)


@pytest.mark.parametrize("cut", [0, 10, 1500])
def test_a_damaged_template_is_refused(template: tuple[Path, templates.Key], cut: int) -> None:
    path, key = template
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ConversionFailed, match="damaged"):
        templates.read(path, key)
    assert not templates.is_usable(path, key), "it would not be made anew"


def test_a_changed_template_is_refused(template: tuple[Path, templates.Key]) -> None:
    path, key = template
    content = bytearray(lzma.decompress(path.read_bytes()))
    content[-1000] ^= 1
    path.write_bytes(lzma.compress(bytes(content)))
    with pytest.raises(ConversionFailed, match="damaged"):
        templates.read(path, key)


def test_a_refused_template_leaves_the_model_that_was_there(
    starter_gguf: Path,
    small_model: Path,
    tmp_path: Path,
    template: tuple[Path, templates.Key],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, _ = template
    path.write_bytes(b"no template")
    monkeypatch.setattr(templates.find, "__defaults__", (tmp_path,))
    output = Path(shutil.copytree(small_model, tmp_path / "model"))
    before = read_manifest(output).model_copy(update={"source": str(starter_gguf.resolve())})
    before.save(output)
    with pytest.raises(ConversionFailed, match="damaged"):
        convert(str(starter_gguf), tmp_path, recipe="int4", output=output)
    assert read_manifest(output) == before
