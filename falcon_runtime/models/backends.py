"""Backends: what a model can be lowered for, and whether this machine can run it."""

import ctypes.util
import os
from pathlib import Path
from typing import get_args

from ..errors import BackendUnavailable
from .manifest import Backend
from .reading import AnyManifest

QNN_LIBRARY = "libQnnHtp.so"


def check_backend(backend: str, manifest: AnyManifest | None = None) -> None:
    """BackendUnavailable unless this machine has `backend`, and `manifest`'s model, if given, was lowered for it."""
    if backend not in get_args(Backend):
        raise BackendUnavailable(f"There is no backend {backend!r}; there are {', '.join(get_args(Backend))}.")
    if backend == "qnn" and not _has_qnn():
        raise BackendUnavailable(
            f"The backend qnn needs Qualcomm's AI Engine Direct libraries, and {QNN_LIBRARY} is not to be found. "
            "Install the SDK and set QNN_SDK_ROOT to its folder, or use the backend xnnpack, which runs on every CPU."
        )
    if manifest and manifest.backend != backend:
        raise BackendUnavailable(
            f"{manifest.name} was lowered for {manifest.backend} and cannot run on {backend}. Use --backend "
            f"{manifest.backend}, or take a model that was lowered for {backend}."
        )


def check_convertible(backend: Backend, title: str) -> None:
    """BackendUnavailable unless this project can lower a model for `backend`."""
    if backend != "xnnpack":
        raise BackendUnavailable(
            f"There is no {title} lowered for {backend} here, and this project lowers for xnnpack only. Put one that "
            "was lowered with Qualcomm's tools into the models folder, or use the backend xnnpack."
        )


def _has_qnn() -> bool:
    if root := os.environ.get("QNN_SDK_ROOT"):
        return any(Path(root).glob(f"lib/*/{QNN_LIBRARY}"))
    return ctypes.util.find_library("QnnHtp") is not None
