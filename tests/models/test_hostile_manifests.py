"""Manifests that somebody has made, or that have come to harm, cost their own model, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falcon_runtime.errors import FalconError, ModelDamaged, UnknownModel
from falcon_runtime.models.architecture import Architecture
from falcon_runtime.models.defaults import defaults_of
from falcon_runtime.models.library import choices, converted_models, find_model, passed_over
from falcon_runtime.models.manifest import CONVERTER_VERSION, MANIFEST, PROGRAM, Manifest, check_program, read_manifest
from falcon_runtime.system.checksum import sha256_of

from ..hostile import BAD_JSON, bounded, harmed, named, put

PROGRAM_BYTES = b"not a program, but its bytes"
HASH = "0" * 64


def write_model(folder: Path) -> Path:
    """A model whose manifest and program go together, and of which only these are looked at."""
    folder.mkdir(parents=True)
    (folder / PROGRAM).write_bytes(PROGRAM_BYTES)
    shape = Architecture(2, 64, 4, 2, 16, 128, 320, 1e-5)
    Manifest(
        name=folder.name,
        title=folder.name,
        shape=shape,
        parameters=shape.parameters,
        backend="xnnpack",
        recipe="int8",
        schemes=("int8",),
        context=256,
        slots=2,
        cache_bits=16,
        max_tokens=256,
        max_rows=64,
        vocabulary=320,
        tokenizer_size=260,
        bos_token=None,
        end_tokens=(256,),
        sampling={"temperature": 0.7},
        source="somewhere",
        source_sha256=HASH,
        program_bytes=len(PROGRAM_BYTES),
        program_sha256=sha256_of(folder / PROGRAM),
        parts={"graph": len(PROGRAM_BYTES)},
        converter=CONVERTER_VERSION,
        versions={"torch": "2"},
    ).save(folder)
    return folder


def with_value(model: Path, name: str, value: object) -> None:
    """Sets a field, `shape.layers` say, in a manifest."""
    manifest: dict[str, Any] = json.loads((model / MANIFEST).read_text())
    place, *parts = [manifest], *name.split(".")
    inner = place[0]
    for part in parts[:-1]:
        inner = inner[part]
    inner[parts[-1]] = value
    (model / MANIFEST).write_text(json.dumps(manifest))


COUNTS = [
    *("shape.layers", "shape.hidden", "shape.heads", "shape.kv_heads", "shape.head_dim", "shape.intermediate"),
    *("shape.vocabulary", "context", "slots", "max_tokens", "max_rows", "vocabulary", "tokenizer_size"),
]
NO_COUNTS: list[object] = [0, -1, 10**9, 10**30, True, 2.0, "2", None, [2], float("inf"), float("nan")]
OTHERS: list[tuple[str, object]] = [
    ("shape.kv_heads", 3),
    ("shape.head_dim", 15),
    *(("shape.rms_norm_eps", value) for value in (0, -1e-5, 1, float("nan"), float("inf"), "1e-5", None)),
    *(("end_tokens", value) for value in ([-1], [320], [10**9], [1.5], [True], ["a"], [[1]], 256, None, {"1": 1})),
    *(("bos_token", value) for value in (-1, 320, 1.0, "a", False)),
    *(("converter", value) for value in (float("inf"), float("nan"), "five", None, [], True)),
    *(("cache_bits", value) for value in (0, 4, 17, "16")),
    *(("program_sha256", value) for value in ("", "0", "G" * 64, "0" * 65, 7, None)),
    ("tokenizer_sha256", "0" * 63),
    *(("program_bytes", value) for value in (-1, 0, 10**12, 1e30, "28")),
    ("shape.layers", 1),  # Possible, and not what the parameters say.
    ("shape.hidden", 128),
    ("shape.tied", True),
    ("vocabulary", 640),
    ("parameters", -5),
    ("parameters", 10**20),
    ("parts", {"graph": -1}),
    ("parts", {"graph": float("inf")}),
    ("parts", []),
    ("sampling", {"temperature": 99}),
    ("sampling", {"temperature": float("nan")}),
    ("sampling", {"top_k": -1}),
    ("sampling", {"nonsense": 1}),
    ("sampling", {"max_new_tokens": 0.5}),
    ("sampling", []),
    ("schemes", "int8"),
    ("schemes", [1]),
    ("recipe", "int2"),
    ("backend", "cuda"),
    ("architecture", "gpt"),
    ("format", 2),
    ("title", 7),
    ("versions", {"torch": 2}),
    ("unknown", 1),
    ("shape", None),
    ("shape", []),
    ("shape.more", 1),
    ("name", {"a": {"b": {}}}),
]


@pytest.mark.parametrize(("name", "value"), [*((name, value) for name in COUNTS for value in NO_COUNTS), *OTHERS])
def test_values_that_make_no_sense_are_refused(tmp_path: Path, name: str, value: object) -> None:
    model = write_model(tmp_path / "model")
    read_manifest(model)
    with_value(model, name, value)
    with pytest.raises(ModelDamaged), bounded():
        read_manifest(model)
    assert choices(tmp_path) == choices(tmp_path / "nothing")


@pytest.mark.parametrize("make", BAD_JSON, ids=named)
def test_what_is_no_manifest_is_refused_and_the_others_are_listed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    put(write_model(tmp_path / "a-bad") / MANIFEST, make)
    write_model(tmp_path / "b-good")
    with pytest.raises(ModelDamaged), bounded():
        read_manifest(tmp_path / "a-bad")
    with bounded():
        listed = choices(tmp_path)
    assert [choice.name for choice in listed if choice.converted] == ["b-good"]
    assert "a-bad" in converted_models(tmp_path) or "a-bad" in passed_over(tmp_path)


def test_one_bad_folder_among_the_models_is_passed_over(tmp_path: Path) -> None:
    write_model(tmp_path / "good")
    (tmp_path / "bare").mkdir()
    (tmp_path / "a-file").write_text("no model")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "gone").symlink_to("nowhere")
    name = b"byte-\xff".decode(errors="surrogateescape")
    write_model(tmp_path / "named").rename(tmp_path / name)
    assert [choice.name for choice in choices(tmp_path) if choice.converted] == ["good"]
    assert set(passed_over(tmp_path)) == {"bare", "circle", "gone", name}
    for models in (tmp_path / "nowhere", tmp_path / "a-file", tmp_path / "circle", Path("a\0b")):
        assert converted_models(models) == []
        assert passed_over(models) == {}


@pytest.mark.parametrize(
    "name", ["a\0b", "a\0/b", "x" * 5000, "x/" * 3000, "\udcff", "..", "/", "/dev/zero", "circle/a"]
)
def test_names_of_no_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(FalconError), bounded():
        read_manifest(find_model(name, tmp_path).folder)


def test_a_program_that_is_no_file(tmp_path: Path) -> None:
    for number, make in enumerate(BAD_JSON):
        model = write_model(tmp_path / str(number))
        put(model / PROGRAM, make)
        with pytest.raises(ModelDamaged), bounded():
            read_manifest(model)
    with pytest.raises(UnknownModel):
        read_manifest(tmp_path / "0" / PROGRAM)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes_of_a_manifest(tmp_path: Path, data: st.DataObject) -> None:
    model = tmp_path / "model" if (tmp_path / "model").exists() else write_model(tmp_path / "model")
    whole = (tmp_path / "whole").read_bytes() if (tmp_path / "whole").exists() else (model / MANIFEST).read_bytes()
    (tmp_path / "whole").write_bytes(whole)
    (model / MANIFEST).write_bytes(data.draw(harmed(whole)))
    try:
        with bounded():
            manifest = read_manifest(model)
            assert manifest.memory_bytes > 0
            defaults_of(None, manifest)
    except ModelDamaged:
        assert not [choice for choice in choices(tmp_path) if choice.converted]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(name=st.sampled_from([*COUNTS, *(name for name, _ in OTHERS)]), value=JSON)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_values_of_a_manifest(tmp_path: Path, name: str, value: object) -> None:
    model = tmp_path / "model" if (tmp_path / "model").exists() else write_model(tmp_path / "model")
    whole = (model / MANIFEST).read_text()
    with_value(model, name, value)
    try:
        with bounded():
            manifest = read_manifest(model)
            assert manifest.memory_bytes > 0
            defaults_of(None, manifest)
    except ModelDamaged:
        pass
    finally:
        (model / MANIFEST).write_text(whole)


# The program's bytes


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("falcon_runtime.system.checksum.user_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "verified"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read for their hash."""
    read: list[Path] = []
    monkeypatch.setattr("falcon_runtime.system.checksum.sha256_of", lambda path: read.append(path) or sha256_of(path))
    return read


def test_a_program_is_read_once_and_again_after_it_changed(tmp_path: Path, records: Path, hashed: list[Path]) -> None:
    model = write_model(tmp_path / "model")
    manifest, program = read_manifest(model), model / PROGRAM
    for _ in range(3):
        check_program(model, manifest)
    assert hashed == [program]
    program.write_bytes(PROGRAM_BYTES)  # The same bytes.
    check_program(model, manifest)
    assert hashed == [program] * 2
    program.write_bytes(PROGRAM_BYTES.replace(b"not", b"nut"))
    for _ in range(2):
        with pytest.raises(ModelDamaged, match=r"model.pte is damaged.*Convert the model again"):
            check_program(model, manifest)
    program.write_bytes(PROGRAM_BYTES)
    check_program(model, manifest)


@pytest.mark.parametrize("place", range(0, len(PROGRAM_BYTES), 3))
def test_every_bit_counts(tmp_path: Path, records: Path, place: int) -> None:
    model = write_model(tmp_path / "model")
    manifest = read_manifest(model)
    check_program(model, manifest)
    flipped = bytearray(PROGRAM_BYTES)
    flipped[place] ^= 1 << place % 8
    (model / PROGRAM).write_bytes(flipped)
    with pytest.raises(ModelDamaged):
        check_program(model, manifest)


def test_a_record_is_of_one_file_and_one_hash(tmp_path: Path, records: Path) -> None:
    one, other = write_model(tmp_path / "one"), write_model(tmp_path / "other")
    (other / PROGRAM).write_bytes(PROGRAM_BYTES.upper())
    check_program(one, read_manifest(one))
    with pytest.raises(ModelDamaged):
        check_program(other, read_manifest(one))
    with pytest.raises(ModelDamaged):
        check_program(one, read_manifest(one).model_copy(update={"program_sha256": HASH}))


@pytest.mark.parametrize("make", BAD_JSON, ids=named)
def test_records_that_came_to_harm_do_none(
    tmp_path: Path, records: Path, hashed: list[Path], make: Callable[[Path], None]
) -> None:
    model = write_model(tmp_path / "model")
    check_program(model, read_manifest(model))
    (record,) = records.iterdir()
    put(record, make)
    with bounded():
        check_program(model, read_manifest(model))
    assert len(hashed) == 2


def test_a_cache_folder_that_cannot_be_written_does_no_harm(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("falcon_runtime.system.checksum.user_cache", lambda: Path("/dev/null/cache"))
    model = write_model(tmp_path / "model")
    for _ in range(2):
        check_program(model, read_manifest(model))
    assert len(hashed) == 2


def test_a_program_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model")
    manifest = read_manifest(model)
    (model / PROGRAM).unlink()
    with pytest.raises(ModelDamaged, match=r"cannot be read \(No such file"):
        check_program(model, manifest)
