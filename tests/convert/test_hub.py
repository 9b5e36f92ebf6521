"""Checkpoints from the hub, as a stand-in for it serves them: what arrives is what was published, once, or a reason."""

import hashlib
import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.convert import convert
from falcon_runtime.convert.checkpoint import Checkpoint
from falcon_runtime.convert.hf_checkpoint import read_header
from falcon_runtime.convert.opening import Opened, Origin, open_checkpoint, open_source
from falcon_runtime.errors import ConversionFailed, DownloadFailed
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.models.sources import HubRepository, parse_source
from falcon_runtime.status import Status

from ..command_line import Call
from ..hub import Files, StandInHub, serve
from ..small_models import small_llama, small_tokenizer
from .conftest import random_llama, write_gguf

NAME = "falconers/Small-1.5-Llama"
REPOSITORY = HubRepository(NAME)


@pytest.fixture(scope="session")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of `small_checkpoint`, in several files of weights."""
    folder = tmp_path_factory.mktemp("sharded")
    small_llama().save_pretrained(folder, max_shard_size="120KB")
    small_tokenizer().save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"never wanted")
    return folder


@pytest.fixture
def files(sharded: Path) -> Files:
    return {path.name: path.read_bytes() for path in sharded.iterdir()}


@pytest.fixture
def shards(files: Files) -> list[str]:
    names = sorted(name for name in files if name.endswith(".safetensors"))
    assert len(names) >= 4
    return names


@pytest.fixture
def hub(files: Files, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """The hub that this process knows; it has the small model."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serve() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        # What comes in one piece is kept as one, and shards of a test are small.
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 14)
        hub.publish(NAME, files)
        yield hub


def open_hub(folder: Path, repository: HubRepository = REPOSITORY, **options: Any) -> Opened:
    return open_source(repository, "Small", folder, **options)


def hash_of(opened: Opened) -> str:
    return opened.origin.sha256(opened.checkpoint.files)


def local_hash(path: Path) -> str:
    return Origin("local").sha256(open_checkpoint(path).files)


def read_all(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {name: checkpoint.tensor(name).clone() for name in checkpoint.stream()}


def assert_whole(tensors: dict[str, torch.Tensor]) -> None:
    expected = small_llama().state_dict()
    assert set(tensors) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(tensors[name], tensor)


def weights_here(folder: Path) -> list[str]:
    """Files of weights below `folder`, whole or not."""
    return sorted(path.name for path in folder.rglob("model-*"))


def test_weights_come_when_they_are_read(
    hub: StandInHub, files: Files, shards: list[str], sharded: Path, tmp_path: Path
) -> None:
    opened = open_hub(tmp_path)
    checkpoint = opened.checkpoint
    assert weights_here(tmp_path) == [], "everything that can be known before is"
    assert checkpoint.shapes == open_checkpoint(sharded).shapes
    assert opened.origin.download_bytes == opened.origin.download_room == sum(len(files[name]) for name in shards)
    names = list(checkpoint.stream())
    assert len(names) == len(set(names))
    assert_whole(read_all(checkpoint))
    assert weights_here(tmp_path) == shards
    assert not hub.sent("pytorch_model.bin")
    assert checkpoint.source == f"{NAME}@{list(hub.commits[NAME])[-1]}"
    assert hash_of(opened) == local_hash(sharded)
    assert checkpoint.tokenizer.encode("Hi") == small_tokenizer().encode("Hi")


def test_what_is_here_is_not_downloaded_again(
    hub: StandInHub, files: Files, shards: list[str], sharded: Path, tmp_path: Path
) -> None:
    first = open_hub(tmp_path)
    stream = first.checkpoint.stream()
    second_shard = read_header(sharded / shards[1])
    while next(stream) not in second_shard:
        pass
    stream.close()
    second = open_hub(tmp_path)
    assert 0 < second.origin.download_bytes < first.origin.download_bytes
    assert_whole(read_all(second.checkpoint))
    third = open_hub(tmp_path)
    assert third.origin.download_bytes == 0
    assert_whole(read_all(third.checkpoint))
    for name in set(files) - {"pytorch_model.bin", *shards[2:]}:
        assert len(hub.sent(name)) == 1


def test_two_shards_at_most_are_on_the_disk(
    hub: StandInHub, files: Files, shards: list[str], sharded: Path, tmp_path: Path
) -> None:
    opened = open_hub(tmp_path, delete_shards=True)
    checkpoint = opened.checkpoint
    assert opened.origin.download_room == sum(sorted(len(files[name]) for name in shards)[-2:])
    tensors = {}
    for name in checkpoint.stream():
        tensors[name] = checkpoint.tensor(name).clone()
        assert 1 <= len(weights_here(tmp_path)) <= 2
    assert_whole(tensors)
    assert weights_here(tmp_path) == []
    assert hash_of(opened) == local_hash(sharded)


def test_the_next_shard_comes_while_one_is_read(hub: StandInHub, shards: list[str], tmp_path: Path) -> None:
    stream = open_hub(tmp_path).checkpoint.stream()
    next(stream)
    deadline = time.monotonic() + 10
    while weights_here(tmp_path) != shards[:2] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert weights_here(tmp_path) == shards[:2], "one ahead, and no more"
    stream.close()


@pytest.mark.parametrize("resets", [False, True])
def test_a_dropped_connection_is_taken_up_where_it_ended(
    hub: StandInHub, files: Files, shards: list[str], tmp_path: Path, resets: bool
) -> None:
    hub.drops[shards[1]], hub.resets = 2, resets
    statuses: list[Status] = []
    assert_whole(read_all(open_hub(tmp_path, report=statuses.append).checkpoint))
    first, *later = hub.sent(shards[1])
    assert first.range is None
    starts = [int(str(request.range).removeprefix("bytes=").removesuffix("-")) for request in later]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(files[shards[1]])
    shown = [status for status in statuses if status.progress]
    assert shown, "seconds of waiting are not silent"
    assert all(status.state == "downloading" and "Small" in status.message for status in shown)
    assert shown[-1].eta_s is not None


def test_what_a_killed_process_left_is_continued(
    hub: StandInHub, files: Files, shards: list[str], tmp_path: Path
) -> None:
    opened = open_hub(tmp_path)
    checkpoint = opened.checkpoint
    half = len(files[shards[0]]) // 2
    Path(f"{checkpoint.files[0]}.part").write_bytes(files[shards[0]][:half])
    assert open_hub(tmp_path).origin.download_bytes == opened.origin.download_bytes - half
    assert_whole(read_all(checkpoint))
    assert [request.range for request in hub.sent(shards[0])] == [f"bytes={half}-"]


@pytest.mark.parametrize("name", ["{shard}", "config.json"])
def test_content_that_is_not_what_was_published_is_not_kept(
    hub: StandInHub, shards: list[str], tmp_path: Path, name: str
) -> None:
    name = name.format(shard=shards[0])
    hub.forged.add(name)
    with pytest.raises(DownloadFailed, match=rf"{name} of {NAME}@.* hash is .* try again"):
        read_all(open_hub(tmp_path).checkpoint)
    assert not list(tmp_path.rglob(name)) + list(tmp_path.rglob(f"{name}.part"))
    hub.forged.clear()
    assert_whole(read_all(open_hub(tmp_path).checkpoint))


def test_a_gated_repository_asks_for_its_licence(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    with pytest.raises(DownloadFailed, match=rf"gated: accept its licence at https://\S+/{NAME} and set HF_TOKEN"):
        open_hub(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.requests.clear()
    assert_whole(read_all(open_hub(tmp_path).checkpoint))
    assert {request.token for request in hub.requests} == {"hf_secret", None}
    large = [request for request in hub.requests if request.sent and request.path.endswith(".safetensors")]
    assert {request.token for request in large} == {None}, "the storage is another origin"


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        (HubRepository("falconers/nothing"), "There is no falconers/nothing, neither here"),
        (HubRepository(NAME, revision="v9"), f"{NAME} has no revision v9"),
        (HubRepository(NAME, file="model.gguf"), f"{NAME} has no file model.gguf"),
    ],
)
def test_what_the_hub_does_not_have(hub: StandInHub, tmp_path: Path, repository: HubRepository, words: str) -> None:
    with pytest.raises(DownloadFailed, match=words):
        open_hub(tmp_path, repository)


def test_a_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadFailed, match=rf"{NAME} could not be downloaded .* Check the network"):
        open_hub(tmp_path)


def test_a_pinned_revision_is_what_comes(hub: StandInHub, files: Files, tmp_path: Path) -> None:
    pinned = list(hub.commits[NAME])[-1]
    config = json.loads(files["config.json"]) | {"rms_norm_eps": 0.5}
    newest = hub.publish(NAME, files | {"config.json": json.dumps(config).encode()})
    opened = open_hub(tmp_path, HubRepository(NAME, revision=pinned))
    checkpoint = opened.checkpoint
    assert (checkpoint.source, checkpoint.config.rms_norm_eps) == (f"{NAME}@{pinned}", 1e-6)
    opened = open_hub(tmp_path)
    checkpoint = opened.checkpoint
    assert (checkpoint.source, checkpoint.config.rms_norm_eps) == (f"{NAME}@{newest}", 0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config.json": {"architectures": ["FalconForCausalLM"]}}, "Only LlamaForCausalLM"),
        ({"config.json": {"intermediate_size": 96}}, "mlp.gate_proj.weight"),
        ({"model.safetensors.index.json": {"weight_map": {"a": "../../x.safetensors"}}}, r"\.\./\.\./x"),
        ({"model.safetensors.index.json": None}, "lacks model.safetensors"),
        ({"tokenizer.json": None}, "tokenizer"),
    ],
)
def test_a_foreign_checkpoint_is_refused_before_its_weights_come(
    hub: StandInHub, files: Files, tmp_path: Path, change: dict[str, dict[str, Any] | None], words: str
) -> None:
    for name, values in change.items():
        data = files.pop(name)
        if values is not None:
            files[name] = json.dumps(json.loads(data) | values).encode()
    hub.publish(NAME, files)
    with pytest.raises(ConversionFailed, match=words):
        open_hub(tmp_path)
    assert weights_here(tmp_path) == []


def test_a_disk_that_fills_up(hub: StandInHub, files: Files, shards: list[str], tmp_path: Path) -> None:
    checkpoint, room = open_hub(tmp_path).checkpoint, 50_000
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(DownloadFailed) as full:
            read_all(checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    left = len(files[shards[0]]) - room
    assert f"no room in {checkpoint.files[0].parent} for {left:,} more bytes of {shards[0]}" in str(full.value)
    assert "Make room" in str(full.value)
    assert_whole(read_all(open_hub(tmp_path).checkpoint))
    assert hub.sent(shards[0])[-1].range == f"bytes={room}-", "what had arrived was kept"


def test_an_end_does_not_wait_for_what_is_on_its_way(hub: StandInHub, shards: list[str], tmp_path: Path) -> None:
    stream = open_hub(tmp_path).checkpoint.stream()
    hub.pause_s = 0.3  # More than two seconds a shard.
    next(stream)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 1.2
    assert shards[1] not in weights_here(tmp_path)


def test_a_single_gguf_file(hub: StandInHub, tmp_path: Path) -> None:
    model = random_llama()
    data = write_gguf(tmp_path / "small-q8_0.gguf", model).read_bytes()
    commit = hub.publish(f"{NAME}-GGUF", {"small-q8_0.gguf": data, "other.gguf": b"GGUF"})
    repository, announced = HubRepository(f"{NAME}-GGUF", file="small-q8_0.gguf"), []
    opened = open_hub(tmp_path / "downloads", repository, announce=announced.append)
    checkpoint = opened.checkpoint
    assert torch.equal(read_all(checkpoint)["lm_head.weight"], model.lm_head.weight)
    assert checkpoint.source == f"{NAME}-GGUF/small-q8_0.gguf@{commit}"
    assert hash_of(opened) == local_hash(tmp_path / "small-q8_0.gguf")
    assert f"{NAME}-GGUF/small-q8_0.gguf@{commit}" in announced[0]
    open_hub(tmp_path / "downloads", repository, announce=announced.append)
    assert len(announced) == 1, "nothing was to be downloaded"
    assert not hub.sent("other.gguf")


@pytest.mark.parametrize(
    ("source", "file"),
    [
        (f"hf.co/{NAME}-GGUF:q8_0", "small-Q8_0.gguf"),
        (f"https://huggingface.co/{NAME}-GGUF", "Q4_K_M/small.gguf"),
        (f"{NAME}-GGUF/Q4_K_M/small.gguf", "Q4_K_M/small.gguf"),
        (f"https://huggingface.co/{NAME}-GGUF/blob/main/small-Q8_0.gguf", "small-Q8_0.gguf"),
    ],
)
def test_a_file_of_a_repository_of_gguf_files(hub: StandInHub, tmp_path: Path, source: str, file: str) -> None:
    data = write_gguf(tmp_path / "small.gguf", random_llama()).read_bytes()
    there = dict.fromkeys(("small-Q8_0.gguf", "Q4_K_M/small.gguf", "Q2_K.gguf", "config.json"), b"GGUF")
    commit = hub.publish(f"{NAME}-GGUF", there | {file: data})
    repository = parse_source(source)
    assert isinstance(repository, HubRepository)
    opened = open_hub(tmp_path / "downloads", repository)
    checkpoint = opened.checkpoint
    assert checkpoint.source == f"{NAME}-GGUF/{file}@{commit}"
    assert hash_of(opened) == hashlib.sha256(data).hexdigest()
    assert [request.path for request in hub.requests if request.sent and request.path.endswith(".gguf")] == [
        f"/{NAME}-GGUF/resolve/{commit}/{file}"
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            f"{NAME}-GGUF:Q5_1",
            rf"{NAME}-GGUF has no GGUF file of Q5_1.*there are big-00001-of-00002.gguf, .*small-Q8_0",
        ),
        (
            f"{NAME}-GGUF/other.gguf",
            rf"has no file other\.gguf\. Name one of its files, as in {NAME}-GGUF/big-.*small-Q8",
        ),
        (f"{NAME}-GGUF/big-00001-of-00002.gguf", r"one of 2 parts.*llama-gguf-split --merge"),
        (f"{NAME}-GGUF:big", r"one of 2 parts"),
        (f"{NAME}:Q8_0", rf"no GGUF files at all: name {NAME} alone"),
    ],
)
def test_what_there_is_instead(hub: StandInHub, tmp_path: Path, source: str, words: str) -> None:
    names = ("small-Q8_0.gguf", "big-00001-of-00002.gguf", "big-00002-of-00002.gguf")
    hub.publish(f"{NAME}-GGUF", dict.fromkeys(names, b"GGUF"))
    repository = parse_source(source)
    assert isinstance(repository, HubRepository)
    with pytest.raises((ConversionFailed, DownloadFailed), match=words):
        open_hub(tmp_path, repository)
    assert not any(hub.sent(name) for name in names)


def test_a_repository_with_both_is_the_checkpoint(hub: StandInHub, files: Files, tmp_path: Path) -> None:
    hub.publish(NAME, files | {"small-Q8_0.gguf": b"GGUF"})
    assert set(open_hub(tmp_path).checkpoint.shapes) == set(small_llama().state_dict())


def test_a_conversion_from_the_hub(
    hub: StandInHub,
    files: Files,
    shards: list[str],
    sharded: Path,
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.card, hub.token = {"license": "apache-2.0"}, "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    done = call("convert", NAME, "--slots", "1", "--delete-shards", models_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    model = tmp_path / "small-1.5-llama"
    manifest = read_manifest(model)
    commit = list(hub.commits[NAME])[-1]
    assert manifest.source == f"{NAME}@{commit}"
    local = convert(str(sharded), tmp_path, slots=1, output=tmp_path / "local")
    assert (model / "model.pte").read_bytes() == (local / "model.pte").read_bytes()
    assert weights_here(tmp_path) == []
    for words in (f"{NAME}@{commit}", "apache-2.0", f"https://huggingface.co/{NAME}", "download", "disk", "memory"):
        assert words in done.stderr
    with FalconRuntime(str(model)) as runtime:
        *_, last = runtime.generate("Once", SamplingParams(max_new_tokens=3, logit_bias={256: -100}))
        assert last.stats.generated_tokens == 3


@pytest.mark.parametrize(
    ("source", "licence"),
    [
        (NAME, "none named: https://huggingface.co/" + NAME),
        ("falcon3-1b-instruct", "TII Falcon-LLM License 2.0: https://"),
    ],
)
def test_no_download_begins_without_room_for_it(
    hub: StandInHub,
    files: Files,
    shards: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    licence: str,
) -> None:
    hub.publish("tiiuae/Falcon3-1B-Instruct", files)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=500_000))
    announced: list[str] = []
    with pytest.raises(DownloadFailed, match=r"take [\d.]+ MB, and .* has room for 0.5 MB.*--delete-shards"):
        convert(source, tmp_path, recipe="fp32", context=64, announce=announced.append)
    (told,) = announced
    assert licence in told
    assert not any(hub.sent(name) for name in shards)
