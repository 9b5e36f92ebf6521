"""Compiled kernels, kept in the user's cache folder: numba takes half a minute for them, and they are the same each
time for one processor, one source and one set of versions.

Each file is a zip, whose checksums tell a damaged one, and whose name has a digest of all that its code depends on. It
appears when it is whole. Without a folder that can be written, kernels are compiled at each start.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from filelock import FileLock

from ...system.child import subprocess_env
from ...system.folders import user_cache
from ...system.instruction_sets import seen_by_llvm, target
from . import machine_code

Library = tuple[str, bytes]
"""The name of a C function in its library, and the object code of that."""
PACKAGES = ("numba", "llvmlite", "numpy", "executorch")


def addresses(maker: str, *options: Any, announce: Callable[[], None] = lambda: None) -> dict[str, int]:
    """Addresses of C functions, by the names that their maker gives them: a function "module:name", which makes them
    (numba's `cfunc`) of `options`. Its module is imported only if they have to be compiled, and so is numba.

    They must depend on nothing but the source of this package and on `options`, which their `repr` tells: no addresses
    in them, no global that changes. `announce` is called before they are compiled, which takes seconds, if they are.
    """
    module, name = maker.split(":")
    path = folder() / _file(maker, options)
    libraries = _kept(path)
    if not libraries:
        announce()
        with _alone(path):
            libraries = _kept(path)  # It may be there by now.
            if not libraries:
                libraries = _made(module, name, options)
                _keep(path, libraries)
    # Also what was compiled just now: where numba has it, a sum may be in another order, and its last bits others.
    return {name: _load(*library) for name, library in libraries.items()}


def _made(module: str, name: str, options: tuple[Any, ...]) -> dict[str, Library]:
    _prepare_numba()
    make: Callable[..., Mapping[str, Any]] = getattr(import_module(module), name)
    return {name: _library(function) for name, function in make(*options).items()}


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits for another process that is just making the file: several that start together compile once."""
    with ExitStack() as stack:
        # Where the folder cannot be written, or its file system has no locks, each compiles for itself.
        with suppress(OSError, NotImplementedError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        yield


def compile_beside(maker: str) -> "subprocess.Popen[bytes] | None":
    """Begins to compile in another process what `addresses` makes without options, unless that is kept already: the two
    can use two processors. `addresses` finds it kept when that process has ended."""
    if _kept(folder() / _file(maker, ())):
        return None
    command = [sys.executable, "-P", "-m", __name__, maker]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=subprocess_env())


def _prepare_numba() -> None:
    """Lets numba, which may not be imported yet, compile for the instruction set that was chosen, assembly too."""
    llvm.initialize_native_asmparser()
    if target() != seen_by_llvm():
        _, os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = target()


def folder() -> Path:
    """Where they are kept."""
    return user_cache() / "kernels"


def _library(function: Any) -> Library:
    _, _, (code, _) = function._library.serialize_using_object_code()
    return function._wrapper_name, code


def _load(name: str, code: bytes) -> int:
    """Each library has an engine of its own: numba numbers functions anew in each process, so that names recur."""
    engine = machine_code.engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    return machine_code.address(engine, name)


def _kept(path: Path) -> dict[str, Library]:
    """The libraries in a file; none if it is not there, or damaged."""
    try:
        with zipfile.ZipFile(path) as file:
            names = {entry.split("/")[0] for entry in file.namelist()}
            return {name: (file.read(f"{name}/name").decode(), file.read(f"{name}/object")) for name in names}
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error):
        return {}


def _keep(path: Path, libraries: Mapping[str, Library]) -> None:
    # Without such a folder, or room in it, the next start compiles them again.
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            whole = Path(scratch) / path.name
            with zipfile.ZipFile(whole, "w") as file:
                for name, (symbol, code) in libraries.items():
                    file.writestr(f"{name}/name", symbol)
                    file.writestr(f"{name}/object", code)
            os.replace(whole, path)


def _file(maker: str, options: tuple[Any, ...]) -> str:
    return f"{maker.partition(':')[2]}-{_digest(maker, options)}.zip"


def _digest(name: str, options: tuple[Any, ...]) -> str:
    return hashlib.sha256("\n".join([_surroundings(), name, repr(options)]).encode()).hexdigest()[:32]


@cache
def _surroundings() -> str:
    """All that compiled code depends on besides its options: processor, versions and source."""
    versions = [sys.version, *(f"{package} {version(package)}" for package in PACKAGES)]
    here = Path(__file__).parent
    models = here.parents[1] / "models"
    sources = [*sorted(here.glob("*.py")), models / "recipes.py", models / "architecture.py"]
    digests = [hashlib.sha256(source.read_bytes()).hexdigest() for source in sources]
    return "\n".join([*target(), *versions, *digests])


def main() -> None:
    """`python -m falcon_runtime.engine.kernels.compiled MAKER`, started by `compile_beside`; ends with its parent."""

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    addresses(sys.argv[1])


if __name__ == "__main__":
    main()
