"""What the catalogue says of its models follows from their shapes, and agrees with what conversion makes of them."""

import shutil
from pathlib import Path

import pytest

from falcon_runtime.convert.needs import Needs
from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.errors import UnknownModel
from falcon_runtime.models.architecture import MEMORY_SHARE
from falcon_runtime.models.catalog import CATALOG, STARTER
from falcon_runtime.models.library import Model, choices, converted_models, find_model
from falcon_runtime.models.manifest import MANIFEST, read_manifest
from falcon_runtime.models.sources import HubRepository
from falcon_runtime.system.machine import available_memory, default_threads, machine_memory

from ..convert.conftest import write_gguf
from ..small_models import small_llama


@pytest.mark.parametrize(
    ("name", "billions", "download_gb"),
    [
        ("falcon3-1b-instruct", 1.67, 3.3),
        ("falcon3-3b-instruct", 3.23, 6.5),
        ("falcon3-7b-instruct", 7.46, 14.9),
        ("falcon3-10b-instruct", 10.31, 20.6),
    ],
)
def test_sizes_of_falcon3(name: str, billions: float, download_gb: float) -> None:
    entry = CATALOG[name]
    assert entry.parameters / 1e9 == pytest.approx(billions, abs=0.005)
    assert entry.download_bytes / 1e9 == pytest.approx(download_gb, abs=0.05)
    assert isinstance(entry.source, HubRepository)
    assert entry.source.url == f"https://huggingface.co/tiiuae/{entry.title}"


def test_the_cache_is_keys_and_values_of_every_token() -> None:
    shape = CATALOG["falcon3-7b-instruct"].architecture
    assert shape.kv_cache_bytes(4096) == 4096 * 28 * (2 * 4 * 256) * 2
    assert shape.kv_cache_bytes(4096, bits=8) == 4096 * 28 * (2 * 4 * (256 + 4)), "with a float32 as scale"
    entry = CATALOG["falcon3-7b-instruct"]
    assert shape.memory_bytes(entry.program_bytes, 8192, 8, bits=8) < MEMORY_SHARE * 16e9
    assert shape.kv_cache_bytes(4096, bits=32) == 2 * shape.kv_cache_bytes(4096)
    assert shape.kv_cache_bytes(100, slots=3) == 3 * shape.kv_cache_bytes(100)
    assert shape.kv_cache_bytes(65) == shape.kv_cache_bytes(128) == 2 * shape.kv_cache_bytes(1), "in blocks of 64"
    assert shape.memory_bytes(5_000, 100, 3) - shape.memory_bytes(0, 100) == 5_000 + 2 * shape.kv_cache_bytes(100)


@pytest.mark.parametrize("name", [STARTER.name, "falcon3-10b-instruct"])
def test_slots_are_as_many_as_memory_allows(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    entry = CATALOG[name]

    def needed(slots: int) -> int:
        return entry.architecture.memory_bytes(entry.program_bytes, entry.context, slots)

    # Of the memory, four fifths may be used.
    for memory, slots in ((needed(3) / 0.79, 3), (needed(3) / 0.81, 2), (needed(1) / 0.9, 1), (1 << 40, 8)):
        monkeypatch.setattr("falcon_runtime.models.catalog.machine_memory", lambda memory=memory: int(memory))
        assert entry.slots == slots
        assert entry.memory_bytes == needed(slots)


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_the_memory_of_a_container_is_its_limit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("falcon_runtime.system.machine.CGROUP", tmp_path)
    host = machine_memory()
    assert host > 100_000_000
    (tmp_path / "memory").mkdir()
    for text, memory in (("1000000\n", 1_000_000), ("max\n", host), (f"{2 * host}\n", host)):
        (tmp_path / name).write_text(text)
        assert machine_memory() == memory


@pytest.mark.parametrize(
    ("most", "used", "stat", "files"),
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ],
)
def test_available_memory_is_the_systems_and_within_the_containers_limit(
    most: str, used: str, stat: str, files: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PROC", "CGROUP"):
        monkeypatch.setattr(f"falcon_runtime.system.machine.{variable}", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert available_memory() == 5_120_000
    (tmp_path / "memory").mkdir()
    (tmp_path / used).write_text("3000000\n")
    (tmp_path / stat).write_text(f"anon 1000000\n{files} 500000\nactive_file 7\n")
    for limit, available in (("4000000", 1_500_000), ("2000000", 0), ("max", 5_120_000), ("90000000", 5_120_000)):
        (tmp_path / most).write_text(limit + "\n")
        assert available_memory() == available


def test_the_cpus_of_a_container_are_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("falcon_runtime.system.machine.CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    assert default_threads() == 8
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota, threads in (("-1", 8), ("200000", 2), ("10000", 1), ("1600000", 8)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
        assert default_threads() == threads
    for text, threads in (("300000 100000", 3), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text + "\n")
        assert default_threads() == threads


def test_available_memory_of_this_machine() -> None:
    assert 0 < available_memory() <= machine_memory()


@pytest.mark.parametrize("name", [STARTER.name, "falcon3-7b-instruct"])
def test_another_recipe_is_another_size(name: str) -> None:
    entry = CATALOG[name]
    int4, int8, fp32 = (entry.with_recipe(recipe) for recipe in ("int4", "int8", "fp32"))
    assert entry.with_recipe(entry.recipe) == entry
    assert int4.program_bytes < int8.program_bytes < fp32.program_bytes
    assert fp32.slots <= int8.slots
    cache = entry.architecture.kv_cache_bytes(entry.context, fp32.slots, bits=32)
    assert fp32.memory_bytes == pytest.approx(fp32.program_bytes + cache, abs=1e9)


def test_a_recipe_is_asked_for_by_name(tmp_path: Path) -> None:
    plain = find_model(STARTER.name, tmp_path)
    assert plain == Model(STARTER.name, tmp_path / STARTER.name, STARTER)
    assert find_model(f"{STARTER.name}:int4", tmp_path) == plain
    other = find_model(f"{STARTER.name}:int8", tmp_path)
    assert (other.name, other.title, other.recipe) == (f"{STARTER.name}:int8", "SmolLM2-135M-Instruct int8", "int8")
    assert other.folder == tmp_path / "smollm2-135m-instruct-int8"
    assert other.entry == STARTER.with_recipe("int8")
    other.folder.mkdir()
    assert find_model("smollm2-135m-instruct-int8", tmp_path) == other
    for recipe in ("int5", ""):
        with pytest.raises(UnknownModel, match=rf"no recipe '{recipe}' of smollm2.*int8, int4, fp32"):
            find_model(f"{STARTER.name}:{recipe}", tmp_path)
    with pytest.raises(UnknownModel, match="no model 'other:int4'"):
        find_model("other:int4", tmp_path)


def test_a_converted_model_is_found_as_its_source_is_spelled(tmp_path: Path, small_model: Path) -> None:
    folder = Path(shutil.copytree(small_model, tmp_path / "llama-3.2-1b"))
    assert find_model("llama-3.2-1b", tmp_path).folder == folder
    assert find_model("Llama-3.2-1B", tmp_path).folder == folder
    assert find_model(str(folder), tmp_path / "elsewhere").folder == folder


@pytest.mark.parametrize(
    ("model", "command", "name"),
    [
        ("hf.co/ORG/NAME-1.5-GGUF:Q8_0", "hf.co/ORG/NAME-1.5-GGUF:Q8_0", "name-1.5-gguf-q8_0"),
        ("https://huggingface.co/ORG/NAME?x=1", "'https://huggingface.co/ORG/NAME?x=1'", "name"),
        ("ORG/NAME/DIR/My.File.gguf@v1", "ORG/NAME/DIR/My.File.gguf@v1", "my.file"),
    ],
)
def test_a_checkpoint_is_to_be_converted_first(tmp_path: Path, model: str, command: str, name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        find_model(model, tmp_path)
    for words in ("not converted yet", f"python -m falcon_runtime convert {command}.", f"It is then called {name}."):
        assert words in str(caught.value)


def test_a_checkpoint_here_is_to_be_converted_first(tmp_path: Path, small_checkpoint: Path) -> None:
    file = tmp_path / "A Model.GGUF"
    file.touch()
    for path, name in ((small_checkpoint, "small-llama"), (file, "a model")):
        with pytest.raises(UnknownModel, match=rf"not converted yet.* convert .*It is then called {name}\."):
            find_model(str(path), tmp_path)


@pytest.mark.parametrize("model", ["x" * 5000, "http://example.com/a", "nul\0", "a:b:c", "~nobody/x"])
def test_what_no_model_is_called(tmp_path: Path, model: str) -> None:
    with pytest.raises(UnknownModel, match="There is no model"):
        find_model(model, tmp_path)


def test_conversions_that_go_on_are_not_listed(tmp_path: Path, small_model: Path) -> None:
    for name in ("whole", ".whole.partial"):
        shutil.copytree(small_model, tmp_path / name)
    assert converted_models(tmp_path) == ["whole"]


def test_choices_are_the_catalogue_and_what_is_converted(tmp_path: Path, small_model: Path) -> None:
    for name in ("a-model", f"{STARTER.name}-int8", "damaged"):
        shutil.copytree(small_model, tmp_path / name)
    (tmp_path / "damaged" / MANIFEST).write_text("{}")
    (tmp_path / "nothing").mkdir()
    found = choices(tmp_path)
    falcons = [name for name in CATALOG if name != STARTER.name]
    assert [choice.name for choice in found] == [STARTER.name, f"{STARTER.name}:int8", *falcons, "a-model"]
    starter, variant, *_, other = found
    assert (starter.converted, starter.recipe, starter.licence) == (False, "int4", "Apache-2.0")
    assert (starter.download_bytes, starter.memory_bytes) == (STARTER.download_bytes, STARTER.memory_bytes)
    manifest = read_manifest(small_model)
    for choice in (variant, other):
        assert (choice.converted, choice.download_bytes) == (True, 0)
        assert (choice.program_bytes, choice.memory_bytes) == (manifest.program_bytes, manifest.memory_bytes)
        assert (choice.recipe, choice.context, choice.slots, choice.parameters) == ("fp32", 256, 1, manifest.parameters)
    assert (other.title, other.licence, variant.title) == ("a-model", "", "SmolLM2-135M-Instruct int8")
    assert choices(tmp_path / "no-folder")[0] == starter


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_those_of_transformers(tmp_path: Path, tied: bool) -> None:
    model = small_llama(tie_word_embeddings=tied)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "model.gguf", model))
    assert checkpoint.architecture.parameters == model.num_parameters()


def test_the_starter_model_is_as_large_as_foretold(starter_models_dir: Path, starter_gguf: Path) -> None:
    assert open_checkpoint(starter_gguf).architecture == STARTER.architecture
    found = read_manifest(starter_models_dir / STARTER.name).program_bytes
    assert found == pytest.approx(STARTER.program_bytes, rel=0.02)


def test_a_person_reads_what_it_takes() -> None:
    entry = CATALOG["falcon3-10b-instruct"]
    needs = Needs(entry.download_bytes, 10_000_000_000, entry.program_bytes, entry.memory_bytes)
    text = needs.describe(entry.title, "tiiuae/Falcon3-10B-Instruct@abc", entry.terms)
    memory = f"{entry.memory_bytes / 1e9:.1f} GB to run"
    for words in ("tiiuae/Falcon3-10B-Instruct@abc", entry.licence, entry.licence_url, "20.6 GB", "15.9 GB", memory):
        assert words in text
