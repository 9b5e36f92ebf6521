"""Intel's OpenVINO, which ExecuTorch calls for programs that were lowered for it."""

import importlib.util

from ..errors import BackendUnavailable

PACKAGES = {"openvino": "openvino>=2025.1,<2026", "nncf": "nncf==3.1.0"}
"""What ExecuTorch 1.5's backends/openvino is made for; without nncf its partitioner cannot be imported."""


def check_packages() -> None:
    """BackendUnavailable unless all that lowering takes is installed."""
    if missing := [wanted for name, wanted in PACKAGES.items() if importlib.util.find_spec(name) is None]:
        wanted = " ".join(f"'{package}'" for package in missing)
        raise BackendUnavailable(f"Lowering for OpenVINO takes packages that are not here: pip install {wanted}")
