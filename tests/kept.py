"""What tests make once and keep in the user's cache, for as long as what it is made of stays the same."""

import hashlib
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

import falcon_runtime
from falcon_runtime.system.folders import user_cache

PACKAGE = Path(falcon_runtime.__file__).parent
CONVERTER = [*(PACKAGE / "convert").rglob("*.py"), *(PACKAGE / "models").glob("*.py")]
SMALL_MODELS = [Path(__file__).with_name("small_models.py"), Path(__file__).with_name("conftest.py")]
LIBRARIES = ("executorch", "torch", "transformers")
KEPT = user_cache().with_name("falcon-runtime-tests")


def cache_of(*sources: Path) -> Path:
    """A folder for what these files and the libraries make: what is in it is as good as made now."""
    digest = hashlib.sha256(repr([version(library) for library in LIBRARIES]).encode())
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return ensured(KEPT / digest.hexdigest()[:16])


def ensured(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, made by whichever process needs it first. It appears when it is whole: who is ended leaves no half."""
    ensured(folder.parent)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=ensured(KEPT)) as unfinished:
                make(Path(unfinished) / folder.name)
                (Path(unfinished) / folder.name).rename(folder)
    return folder
