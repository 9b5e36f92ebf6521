"""Qualcomm's SDK (AI Engine Direct, QNN) as its user has installed it, and what of it loads.

ExecuTorch downloads an SDK by itself where QNN_SDK_ROOT is not set, and may start Python anew with a C library that it
has downloaded too. So whatever here leads to ExecuTorch's Qualcomm code comes after one of these checks. And that the
backend is registered says nothing: ExecuTorch calls it available on any machine.
"""

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import BackendUnavailable

VARIABLE = "QNN_SDK_ROOT"
OLDEST = 2, 37
"""The SDK that ExecuTorch 1.5 was built with (`QNN_VERSION` in its backends/qualcomm/scripts/download_qnn_sdk.py): it
refuses another major version, warns of an older one, and has code for newer ones."""
FOLDERS = {"x86_64": "x86_64-linux-clang", "aarch64": "aarch64-oe-linux-gcc11.2"}
"""Below `lib` of an SDK, by machine."""
TO_LOWER = "libQnnHtp.so", "libQnnHtpPrepare.so", "libQnnSystem.so"
TO_RUN = "libQnnHtp.so", "libQnnSystem.so"
STEPS = (
    f"Get Qualcomm AI Engine Direct {OLDEST[0]}.{OLDEST[1]} or a later {OLDEST[0]}.x from "
    "https://www.qualcomm.com/developer/software/qualcomm-ai-engine-direct-sdk, unpack it, and set "
    f"{VARIABLE} to the folder that has its sdk.yaml. Nothing of it is downloaded for you."
)
LOAD = "import ctypes, sys; [ctypes.CDLL(library, ctypes.RTLD_GLOBAL) for library in sys.argv[1:]]"
PATIENCE_S = 60


@dataclass(frozen=True)
class Sdk:
    root: Path
    version: tuple[int, ...]

    @property
    def libraries(self) -> Path:
        """The folder of those for this machine."""
        return self.root / "lib" / FOLDERS.get(platform.machine(), platform.machine())


def find_sdk() -> Sdk:
    """The SDK that `QNN_SDK_ROOT` names. Errors: BackendUnavailable where it names none, or one of another version."""
    named = os.environ.get(VARIABLE)
    if not named:
        raise BackendUnavailable(f"Qualcomm's SDK is needed, and {VARIABLE} is not set. {STEPS}")
    root = Path(named).expanduser()
    try:
        found = re.search(r"^version:\s*[\"']?(\d+(?:\.\d+)+)", (root / "sdk.yaml").read_text(), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        found = None
    if not found:
        what = "has no sdk.yaml that says its version" if root.is_dir() else "is no folder"
        raise BackendUnavailable(f"{VARIABLE} names {named}, which {what}. {STEPS}")
    version = tuple(map(int, found[1].split(".")))
    if version[:1] != OLDEST[:1] or version < OLDEST:
        raise BackendUnavailable(f"{VARIABLE} names version {found[1]}, which this ExecuTorch cannot use. {STEPS}")
    return Sdk(root, version)


def check_lowering() -> Sdk:
    """The SDK, all of which that lowering takes was found to load. Errors: BackendUnavailable."""
    sdk = find_sdk()
    if platform.machine() != "x86_64":
        raise BackendUnavailable(
            f"Models are lowered for Qualcomm on x86-64 with Linux, and this is {platform.machine()}. Convert the "
            "model on such a machine, and copy its folder."
        )
    if missing := [name for name in TO_LOWER if not (sdk.libraries / name).is_file()]:
        raise BackendUnavailable(f"The SDK lacks {', '.join(missing)} in {sdk.libraries}. {STEPS}")
    _check_loading(TO_LOWER)
    return sdk


def check_running() -> None:
    """BackendUnavailable unless the libraries that run a model load here: those of an SDK, which on x86-64 simulate
    the NPU, or those of a device, which are where its loader looks."""
    if os.environ.get(VARIABLE):
        find_sdk()
    _check_loading(TO_RUN)


def library_path() -> dict[str, str]:
    """The variable that makes a process find the libraries of the SDK; none where there is no SDK. The loader reads it
    when a process starts, and never again."""
    try:
        libraries = str(find_sdk().libraries)
    except BackendUnavailable:
        return {}
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [libraries, os.environ.get("LD_LIBRARY_PATH")]))}


def _check_loading(libraries: tuple[str, ...]) -> None:
    """Loads them in a process of its own: what is wrong with one may end it."""
    command = [sys.executable, "-I", "-c", LOAD, *libraries]
    try:
        done = subprocess.run(
            command, env=os.environ | library_path(), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        reason = f"it took more than {PATIENCE_S} seconds"
    else:
        if done.returncode == 0:
            return
        said = done.stderr.strip().splitlines()
        reason = said[-1].removeprefix("OSError: ") if said else f"the process ended with {done.returncode}"
    more = "Install libc++ (Debian: libc++1 and libc++abi1), which they need. " if "libc++" in reason else ""
    raise BackendUnavailable(f"Qualcomm's libraries do not load here: {reason}. {more or STEPS}")
