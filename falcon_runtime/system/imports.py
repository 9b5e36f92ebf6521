"""Imports that would take seconds for what is not needed here."""

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class _Late(ModuleType):
    """A package whose own code runs when something is asked of it that its submodules have not brought."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        if name.startswith("__") or not spec or not spec.loader:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(self)
        return getattr(self, name)


def import_less() -> None:
    """Saves a process that converts, and does nothing else, eight seconds of a processor."""
    # Programs are written with the classes of ExecuTorch's exporter, not with the exporter.
    execute_late("executorch.exir", "executorch.exir._serialize", "executorch.backends.xnnpack")
    # transformers imports it where it is, as it is beside executorch, for what is not used here.
    leave_out("sklearn")


def serve_alike() -> None:
    """Has uvicorn serve in the same way whatever else is installed: with asyncio's own loop, as in our tests. Before it
    is imported."""
    leave_out("uvloop", "httptools")


def execute_late(*packages: str) -> None:
    """Lets submodules of these packages be imported without the packages' own `__init__`, which imports much more. It
    runs when it is needed, best before submodules that need one another in circles. A package that was imported before
    stays as it is."""
    for name in packages:
        if name not in sys.modules and (spec := find_spec(name)):
            package = module_from_spec(spec)
            package.__class__ = _Late
            sys.modules[name] = package
            parent, _, child = name.rpartition(".")
            setattr(import_module(parent), child, package)


def leave_out(*packages: str) -> None:
    """Makes this process do without packages that libraries use where they are installed. Of use at its start."""
    for name in packages:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # So the import system knows what is not there.
