"""GGUF files of the hub: which of a repository's is meant, and what is said where none is."""

import hashlib
from pathlib import Path

import pytest
import torch

from falcon_runtime.errors import ConversionFailed, DownloadFailed
from falcon_runtime.models.sources import HubRepository, parse_source

from ..hub import Files, StandInHub
from ..small_models import small_llama
from .conftest import random_llama, write_gguf
from .published import NAME, hash_of, local_hash, open_hub, read_all


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
