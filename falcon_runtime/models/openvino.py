"""Intel's OpenVINO, which ExecuTorch calls for programs that were lowered for it."""

import importlib.util
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import BackendUnavailable

RUNTIME, NNCF = "openvino>=2025.1,<2026", "nncf==3.1.0"
"""What ExecuTorch 1.5 is made for (its extra `openvino`, and backends/openvino/requirements.txt): with OpenVINO 2026.4,
running a model ended the process, and without nncf nothing can be lowered."""
MAJOR = "2025."
VARIABLE = "OPENVINO_LIB_PATH"
"""By which ExecuTorch finds the library."""


def check_running() -> None:
    """BackendUnavailable unless OpenVINO is here, in a version that ExecuTorch can call."""
    try:
        found = version("openvino")
    except PackageNotFoundError:
        raise BackendUnavailable(f"OpenVINO is needed, and not installed: pip install '{RUNTIME}'") from None
    if not found.startswith(MAJOR):
        raise BackendUnavailable(f"OpenVINO {found} is not a version that ExecuTorch can call: pip install '{RUNTIME}'")


def check_lowering() -> None:
    """BackendUnavailable unless all that lowering takes is here."""
    check_running()
    if importlib.util.find_spec("nncf") is None:
        raise BackendUnavailable(f"Lowering for OpenVINO takes nncf, which is not installed: pip install '{NNCF}'")


def library() -> dict[str, str]:
    """The variable by which a process finds OpenVINO; none where it is not installed, or the variable is there."""
    spec = None if VARIABLE in os.environ else importlib.util.find_spec("openvino")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or [] for path in sorted(Path(folder).glob("libs/libopenvino_c.so*"))]
    return {VARIABLE: str(found[0])} if found else {}
