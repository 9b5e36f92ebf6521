"""What people paste as the name of a checkpoint, and what a model is called that is made of it."""

from pathlib import Path

import pytest

from falcon_runtime.errors import ConversionFailed
from falcon_runtime.models.sources import HubRepository, name_of, parse_source

NAME = "ORG/Name-1.5_b"
WHOLE = HubRepository(NAME)
FILE = HubRepository(NAME, file="name-q4_0.gguf")
IN_FOLDER = HubRepository(NAME, file="Q4_0/name-q4_0.gguf")
Q8 = HubRepository(NAME, quantization="Q8_0")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (NAME, WHOLE),
        (f"  {NAME}\n", WHOLE),
        (f"{NAME}@refs/pr/2", HubRepository(NAME, revision="refs/pr/2")),
        (f"{NAME}/name-q4_0.gguf", FILE),
        (f"{NAME}/name.GGUF", HubRepository(NAME, file="name.GGUF")),
        (f"{NAME}/name.gguf@v1", HubRepository(NAME, revision="v1", file="name.gguf")),
        (f"{NAME}/Q4_0/name-q4_0.gguf", IN_FOLDER),
        (f"{NAME}:Q8_0", Q8),
        (f"{NAME}:Q8_0@v1", HubRepository(NAME, revision="v1", quantization="Q8_0")),
        (f"{NAME}:latest", WHOLE),
        (f"{NAME}:name-q4_0.gguf", FILE),
        (f"hf.co/{NAME}", WHOLE),
        (f"hf.co/{NAME}:Q8_0", Q8),
        (f"huggingface.co/{NAME}@refs/pr/2", HubRepository(NAME, revision="refs/pr/2")),
        (f"hf://{NAME}/name-q4_0.gguf", FILE),
        (f"https://huggingface.co/{NAME}", WHOLE),
        (f"http://www.HuggingFace.co/{NAME}/", WHOLE),
        (f"https://huggingface.co/{NAME}.git", WHOLE),
        (f"https://huggingface.co/{NAME}?library=transformers#files", WHOLE),
        (f"https://huggingface.co/{NAME}/discussions/3", WHOLE),
        (f"https://huggingface.co/{NAME}/tree/main", WHOLE),
        (f"https://huggingface.co/{NAME}/tree/main/", WHOLE),
        (f"https://huggingface.co/{NAME}/tree/v1.0", HubRepository(NAME, revision="v1.0")),
        (f"https://huggingface.co/{NAME}/tree/refs%2Fpr%2F2", HubRepository(NAME, revision="refs/pr/2")),
        (f"https://huggingface.co/{NAME}/tree/refs/pr/2", HubRepository(NAME, revision="refs/pr/2")),
        (f"https://huggingface.co/{NAME}/commit/abc123", HubRepository(NAME, revision="abc123")),
        (f"https://huggingface.co/{NAME}/blob/main/config.json", WHOLE),
        (f"https://huggingface.co/{NAME}/blob/main/name-q4_0.gguf", FILE),
        (f"https://huggingface.co/{NAME}/blob/main/Q4_0/name-q4_0.gguf", IN_FOLDER),
        (f"https://huggingface.co/{NAME}/resolve/main/name-q4_0.gguf?download=true", FILE),
        (f"https://huggingface.co/{NAME}/raw/v1/a%20b.gguf", HubRepository(NAME, revision="v1", file="a b.gguf")),
    ],
)
def test_what_people_paste(text: str, found: HubRepository) -> None:
    assert parse_source(text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "No checkpoint is named"),
        ("smollm2", "no checkpoint at smollm2"),
        ("models/b.gguf", "no checkpoint at models/b.gguf"),
        ("/a/b", "no checkpoint"),
        ("./a/b", "no checkpoint"),
        ("a/../b", "no checkpoint"),
        ("a/b/c", "no checkpoint"),
        ("a/b/../c.gguf", "no checkpoint"),
        ("a/b:", "no checkpoint"),
        ("x" * 5000, "no checkpoint"),
        ("https://huggingface.co/", "does not lead to a model"),
        ("https://huggingface.co/gpt2", "does not lead to a model"),
        ("https://huggingface.co/datasets/ORG/NAME", "not the address of a model"),
        ("https://huggingface.co/spaces/ORG/NAME", "not the address of a model"),
        (f"https://huggingface.co/{NAME}/tree/main/Q8_0", rf"is a folder.* {NAME}/Q8_0/FILE\.gguf"),
        (f"https://huggingface.co/{NAME}/blob/main/../../x.gguf", "does not lead to a model"),
        ("https://github.com/ORG/NAME", "not an address of the Hugging Face hub"),
    ],
)
def test_what_leads_to_no_checkpoint(text: str, words: str) -> None:
    with pytest.raises(ConversionFailed, match=words):
        parse_source(text)


def test_an_address_of_the_own_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example:8443")
    assert parse_source(f"https://mirror.example:8443/{NAME}/tree/main") == WHOLE


def test_what_is_here_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ORG" / "Name").mkdir(parents=True)
    assert parse_source("ORG/Name") == Path("ORG/Name")
    assert parse_source("~/ORG/Name") == tmp_path / "ORG" / "Name"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (WHOLE, "Name-1.5_b"),
        (FILE, "name-q4_0"),
        (IN_FOLDER, "name-q4_0"),
        (Q8, "Name-1.5_b-Q8_0"),
        (HubRepository(NAME, file="Q4_0/model.gguf"), "Name-1.5_b"),
    ],
)
def test_what_a_model_of_the_hub_is_called(source: HubRepository, name: str) -> None:
    assert name_of(source) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Llama-3.2-1B-Instruct/", "Llama-3.2-1B-Instruct"),
        ("Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("./x/../Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("v1.gguf.d/", "v1.gguf.d"),
        ("dots.../", "dots..."),
        ("My Model v1.5/", "My Model v1.5"),
        (".hidden/", "hidden"),
        ("Llama-3.2-1B.Q4_K_M.gguf", "Llama-3.2-1B.Q4_K_M"),
        ("Llama-3.2-1B.GGUF", "Llama-3.2-1B"),
        ("checkpoint.v1", "checkpoint.v1"),
        ("Llama-3.2-1B/model.gguf", "Llama-3.2-1B"),
        ("models--ORG--Llama-3.2-1B/snapshots/abc123/", "Llama-3.2-1B"),
        ("models--ORG--Llama-3.2-1B/snapshots/abc123/model.gguf", "Llama-3.2-1B"),
    ],
)
def test_what_a_model_of_a_path_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if path.endswith("/"):
        Path(path).mkdir(parents=True)
    assert name_of(Path(path)) == name


def test_a_link_is_called_as_it_is_called(tmp_path: Path) -> None:
    """The hub's own cache is full of links to files that are called by their hashes."""
    (tmp_path / "3f2a").touch()
    (tmp_path / "Llama-3.2.gguf").symlink_to(tmp_path / "3f2a")
    assert name_of(tmp_path / "Llama-3.2.gguf") == "Llama-3.2"


def test_the_folder_one_is_in_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Model.v2").mkdir()
    monkeypatch.chdir(tmp_path / "Model.v2")
    assert name_of(Path(".")) == "Model.v2"
    with pytest.raises(ConversionFailed, match="choose one with --output"):
        name_of(Path("/"))
