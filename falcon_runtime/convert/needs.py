"""What getting, converting and running a model takes, told and checked before gigabytes are on their way."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConversionFailed, DownloadFailed


@dataclass(frozen=True)
class Needs:
    """In bytes."""

    download: int
    """Still to be downloaded."""
    download_room: int
    """The most that the download takes on the disk at one time."""
    program: int | None = None
    """The converted model, about; None where it is not known before the download."""
    memory: int | None = None
    """For running it, about."""

    def check_room(self, folder: Path) -> None:
        """Errors: DownloadFailed, or ConversionFailed where nothing is to be downloaded, if `folder` has no room."""
        needed, free = self.download_room + (self.program or 0), shutil.disk_usage(folder).free
        if needed <= free:
            return
        if self.download:
            raise DownloadFailed(
                f"Download and converted model take {in_words(needed)}, and {folder} has room for {in_words(free)}. "
                "Make room, or choose another --output; --delete-shards removes each file of weights when it has been "
                "read."
            )
        raise ConversionFailed(
            f"The converted model takes {in_words(needed)}, and {folder} has room for {in_words(free)}. Make room, or "
            "choose another --output."
        )

    def announce(self, title: str, source: str, licence: str, announce: Callable[[str], None]) -> None:
        """Tells a person what will be downloaded, if anything will."""
        if self.download:
            announce(self.describe(title, source, licence))

    def describe(self, title: str, source: str, licence: str) -> str:
        """What a person should have read before the download begins, in a few lines."""
        lines = {"source": source, "licence": licence, "download": in_words(self.download)}
        if self.program and self.memory:
            meanwhile, after = in_words(self.download_room + self.program), in_words(self.program)
            lines["disk"] = f"{meanwhile}, of which {after} are the converted model"
            lines["memory"] = f"{in_words(self.memory)} to run"
        return "\n".join([title, *(f"  {name:10}{value}".replace("\n", f"\n{'':12}") for name, value in lines.items())])


def in_words(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
