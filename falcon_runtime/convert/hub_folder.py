"""A Hugging Face checkpoint whose weights come from the hub as they are needed, one file ahead."""

from collections.abc import Iterator
from pathlib import Path

from .hf_checkpoint import Folder, Header
from .hub import Repository, Transfer


class HubFolder(Folder):
    """The small files are here already."""

    def __init__(self, repository: Repository, transfer: Transfer):
        self._repository, self._transfer = repository, transfer
        self.path, self.source = repository.folder, str(repository)

    def __str__(self) -> str:
        return self.source

    def names(self) -> set[str]:
        return set(self._repository.files)

    def header(self, name: str) -> Header:
        return super().header(name) if (self.path / name).exists() else self._repository.header(name)

    def weights(self, names: list[str]) -> Iterator[Path]:
        return self._transfer.files(names)
