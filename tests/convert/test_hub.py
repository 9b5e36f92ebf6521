"""Checkpoints from the hub, as a stand-in for it serves them: what arrives is what was published, once, or a reason."""

import json
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.convert import convert
from falcon_runtime.convert.hf_checkpoint import read_header
from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.errors import ConversionFailed, DownloadFailed
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.models.sources import HubRepository
from falcon_runtime.status import Status

from ..command_line import Call
from ..hub import Files, StandInHub
from ..small_models import small_llama, small_tokenizer
from .published import NAME, hash_of, local_hash, open_hub, read_all


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
