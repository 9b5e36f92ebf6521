"""Backends: what a model can be lowered for, and whether this machine can run it."""

from typing import get_args

from ..errors import BackendUnavailable
from . import openvino, qnn
from .manifest import Backend
from .reading import AnyManifest


def check_backend(backend: str, manifest: AnyManifest | None = None) -> None:
    """BackendUnavailable unless this machine has `backend`, and `manifest`'s model, if given, was lowered for it."""
    if backend not in get_args(Backend):
        raise BackendUnavailable(f"There is no backend {backend!r}; there are {', '.join(get_args(Backend))}.")
    if backend == "qnn":
        qnn.check_running()
    if backend == "openvino":
        openvino.check_running()
    if manifest and manifest.backend != backend:
        raise BackendUnavailable(
            f"{manifest.name} was lowered for {manifest.backend} and cannot run on {backend}. Use --backend "
            f"{manifest.backend}, or take a model that was lowered for {backend}."
        )


def check_convertible(backend: Backend, title: str) -> None:
    """BackendUnavailable unless this project can lower a model for `backend`."""
    if backend != "xnnpack":
        raise BackendUnavailable(
            f"There is no {title} lowered for {backend} here, and none is made unasked. Make one with `falcon convert "
            f"--for {backend}` and name its folder with --model, or use the backend xnnpack."
        )


def libraries() -> dict[str, str]:
    """Variables by which a process finds the libraries of all backends that are here."""
    return qnn.library_path() | openvino.library()
