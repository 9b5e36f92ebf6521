"""Checkpoints on the Hugging Face hub: small files at once, weights file by file when they are needed, all verified.

The transfer is huggingface_hub's, with its token, endpoint and retries. Only the file that is being received is kept
here and under a name of ours: huggingface_hub throws away what has arrived when its process ends, which of a shard are
gigabytes.
"""

import errno
import hashlib
import io
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from fnmatch import fnmatch
from pathlib import Path
from threading import Event

from filelock import FileLock
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, silent_tqdm  # type: ignore[attr-defined]

from ..errors import DownloadFailed
from ..models.sources import HubRepository
from ..status import Report, Status
from ..system.checksum import sha256_of

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "LICENSE*",
)
TIMEOUT_S = 30


class Repository:
    """One commit of a repository on the hub, and the folder that its files are brought into.

    A file has its name there when it is whole and verified, and never before. Errors, everywhere: DownloadFailed.
    """

    def __init__(self, hub: HubRepository, downloads: Path):
        self._hub = hub
        try:
            info = HfApi().model_info(hub.repository, revision=hub.revision, files_metadata=True, timeout=TIMEOUT_S)
        except Exception as error:  # The hub's client raises its own kinds, its HTTP library's and the system's.
            raise self._failed(error) from error
        self.commit = info.sha or ""
        if not re.fullmatch("[0-9a-f]{40}", self.commit):
            raise DownloadFailed(f"The model hub does not say which commit of {hub.repository} it has. Try again.")
        self.files = {file.rfilename: file for file in info.siblings or ()}
        card = info.card_data
        name = (card.license_name or card.license) if card else None
        self.licence = f"{name or 'none named'}: {hub.url}"
        self.folder = downloads / f"{hub.repository.replace('/', '--')}--{self.commit[:12]}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return f"{self._hub.repository}@{self.commit}"

    def size(self, name: str) -> int:
        return self.files[name].size or 0

    def arrived(self, name: str) -> int:
        """Bytes of the file that are here."""
        for path in (self.folder / name, self._part(name)):
            try:
                return min(path.stat().st_size, self.size(name))
            except FileNotFoundError:
                continue
        return 0

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the files for which the hub tells it."""
        return {name: digest for name in self.files if (digest := self.sha256(name))}

    def sha256(self, name: str) -> str | None:
        lfs = self.files[name].lfs
        return lfs.sha256 if lfs else None

    def header(self, name: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """The data type and the shape of each tensor in a safetensors file that need not be here."""
        try:
            found = HfApi().parse_safetensors_file_metadata(
                self._hub.repository, name, revision=self.commit, timeout=TIMEOUT_S
            )
        except Exception as error:
            raise self._failed(error) from error
        return {tensor: (info.dtype, tuple(info.shape)) for tensor, info in found.tensors.items()}

    def fetch_small_files(self) -> None:
        """All that a Hugging Face checkpoint has beside its weights."""
        for name in self.files:
            if Path(name).name == name and any(fnmatch(name, pattern) for pattern in SMALL_FILES):
                self.fetch(name, Event())

    def fetch(self, name: str, stop: Event) -> Path:
        """The file, downloaded if it is not here; what has arrived of it earlier is taken. `stop` ends it early."""
        path, part = self.folder / name, self._part(name)
        part.parent.mkdir(parents=True, exist_ok=True)  # Files may be in folders.
        with FileLock(self.folder / ".lock"):
            while not path.exists():
                arrived = self.arrived(name)
                try:
                    self._receive(name, part, arrived, stop)
                except Exception as error:
                    # A connection may drop many times, as long as each brings something.
                    if self.arrived(name) <= arrived or stop.wait(1):
                        raise self._failed(error, name) from error
                    continue
                self._verify(part, name)
                os.replace(part, path)
        return path

    def _receive(self, name: str, part: Path, arrived: int, stop: Event) -> None:
        """Adds to `part` all that follows its first `arrived` bytes. Errors: of many kinds."""
        with _Part(part, stop) as sink:
            http_get(
                hf_hub_url(self._hub.repository, name, revision=self.commit),
                sink,
                resume_size=arrived,
                headers=build_hf_headers() | {"Accept-Encoding": "identity"},  # Else positions are not the file's.
                expected_size=self.size(name),
                tqdm_class=silent_tqdm,
            )

    def _part(self, name: str) -> Path:
        return self.folder / f"{name}.part"

    def _verify(self, part: Path, name: str) -> None:
        """Against the SHA-256 of a large file, or the name that git has for the content of a small one."""
        if expected := self.sha256(name):
            found = sha256_of(part)
        else:
            expected, content = self.files[name].blob_id, part.read_bytes()
            found = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        if found != expected:
            part.unlink()
            raise DownloadFailed(
                f"{name} of {self} arrived damaged: its hash is {found} instead of {expected}. "
                "It was removed; try again for a fresh copy."
            )

    def _failed(self, error: Exception, name: str = "") -> DownloadFailed:
        hub, full = self._hub, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if isinstance(error, GatedRepoError):  # A kind of RepositoryNotFoundError.
            reason = (
                f"{hub.repository} is gated: accept its licence at {hub.url} and set HF_TOKEN to a token of the "
                "account that did."
            )
        elif isinstance(error, RevisionNotFoundError):
            reason = f"{hub.repository} has no revision {hub.revision}: look at {hub.url}/commits."
        elif isinstance(error, RepositoryNotFoundError):
            reason = (
                f"There is no {hub.repository}, neither here as a file or folder nor on the model hub. Check the name, "
                "and set HF_TOKEN if it is private."
            )
        elif isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            reason = f"The model hub denies {hub.repository} to this HF_TOKEN. Use a token that can read it."
        elif isinstance(error, OSError) and error.errno in full:
            left = self.size(name) - self.arrived(name)
            reason = (
                f"There is no room in {self.folder} for {left:,} more bytes of {name} ({error.strerror}). Make room "
                "and try again; what has arrived is kept."
            )
        else:
            reason = (
                f"{name or hub.repository} could not be downloaded from the model hub ({type(error).__name__}: "
                f"{error!s:.300}). Check the network and try again; what has arrived is kept."
            )
        return DownloadFailed(reason)


class Transfer:
    """Files of a repository on their way here, one after the other and one ahead."""

    def __init__(self, repository: Repository, title: str, report: Report, delete: bool = False):
        """`delete` removes every file when it has been read."""
        self._repository, self._title, self._report, self._delete = repository, title, report, delete

    def files(self, names: list[str]) -> Iterator[Path]:
        """The files `names`, each being there until the next one is asked for."""
        stop = Event()
        with ThreadPoolExecutor(1, "download") as thread:
            try:
                coming = thread.submit(self._repository.fetch, names[0], stop)
                for i, _ in enumerate(names):
                    path = self._wait(coming, names, i)
                    if following := names[i + 1 : i + 2]:
                        coming = thread.submit(self._repository.fetch, following[0], stop)
                    yield path
                    if self._delete:
                        path.unlink()
            finally:
                stop.set()

    def room(self, names: list[str]) -> tuple[int, int]:
        """Bytes that `files(names)` will download, and the most of them that lie here at one time."""
        missing = sorted(self._repository.size(name) - self._repository.arrived(name) for name in names)
        return sum(missing), sum(missing[-2:] if self._delete else missing)

    def _wait(self, coming: Future[Path], names: list[str], i: int) -> Path:
        """The file names[i] when it is here, all before it having been; reports how far `names` are until then."""
        total = sum(map(self._repository.size, names))
        before = sum(map(self._repository.size, names[:i]))
        message = f"Downloading {self._title} ({total / 1e9:.1f} GB),"
        began, at_first = time.monotonic(), self._repository.arrived(names[i])
        while not wait([coming], timeout=0.5).done:
            arrived = self._repository.arrived(names[i])
            rate = (arrived - at_first) / (time.monotonic() - began)
            left = total - before - arrived
            self._report(Status("downloading", message, (before + arrived) / total, left / rate if rate else None))
        return coming.result()


class _Part(io.BufferedWriter):
    """A file that is being received: what comes is put to its end until `stop` is set."""

    def __init__(self, path: Path, stop: Event):
        super().__init__(io.FileIO(path, "ab"))
        self._stop = stop

    def write(self, data: object) -> int:
        if self._stop.is_set():
            raise InterruptedError("Nobody wants it any more.")
        return super().write(data)  # type: ignore[arg-type]
