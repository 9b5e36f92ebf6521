"""Qualcomm's SDK: what is said where it is missing, unfit or does not load."""

import _ctypes
import platform
import shutil
from pathlib import Path

import pytest

from falcon_runtime.errors import BackendUnavailable
from falcon_runtime.models.qnn import FOLDERS, TO_LOWER, check_lowering, check_running, library_path

on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="models are lowered on x86-64")


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Looks like an SDK; its libraries load, and are those of something else."""
    (tmp_path / "sdk.yaml").write_text('name: qairt\nversion: "2.37.0.250724"\n')
    folder = tmp_path / "lib" / FOLDERS[platform.machine()]
    folder.mkdir(parents=True)
    for name in TO_LOWER:
        shutil.copy(_ctypes.__file__, folder / name)
    monkeypatch.setenv("QNN_SDK_ROOT", str(tmp_path))
    return tmp_path


@on_x86
def test_an_sdk_that_loads(sdk: Path) -> None:
    assert check_lowering().version == (2, 37, 0, 250724)
    check_running()
    assert library_path()["LD_LIBRARY_PATH"].startswith(str(sdk / "lib" / "x86_64-linux-clang"))


@on_x86
def test_a_newer_sdk(sdk: Path) -> None:
    (sdk / "sdk.yaml").write_text("version: 2.48.1\n")
    assert check_lowering().version == (2, 48, 1)


@pytest.mark.parametrize("version", ["2.36.9.1", "1.99", "3.0.0"])
def test_an_sdk_of_another_version(sdk: Path, version: str) -> None:
    (sdk / "sdk.yaml").write_text(f"version: {version}\n")
    with pytest.raises(BackendUnavailable, match=rf"version {version}.*Get Qualcomm AI Engine Direct 2\.37"):
        check_lowering()
    assert library_path() == {}


@pytest.mark.parametrize("root", [None, ""])
def test_no_sdk(monkeypatch: pytest.MonkeyPatch, root: str | None) -> None:
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    if root is not None:
        monkeypatch.setenv("QNN_SDK_ROOT", root)
    with pytest.raises(BackendUnavailable, match=r"QNN_SDK_ROOT is not set.*Nothing of it is downloaded"):
        check_lowering()


def test_a_folder_that_is_no_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, words in ((tmp_path, "has no sdk.yaml"), (tmp_path / "missing", "is no folder")):
        monkeypatch.setenv("QNN_SDK_ROOT", str(folder))
        with pytest.raises(BackendUnavailable, match=words):
            check_lowering()


@on_x86
def test_an_sdk_without_all_libraries(sdk: Path) -> None:
    library = sdk / "lib" / "x86_64-linux-clang" / "libQnnHtpPrepare.so"
    library.unlink()
    with pytest.raises(BackendUnavailable, match=r"lacks libQnnHtpPrepare\.so"):
        check_lowering()
    check_running()  # A model that is lowered needs no compiler.
    library.write_text("not a library")
    with pytest.raises(BackendUnavailable, match=r"do not load here: .*libQnnHtpPrepare\.so"):
        check_lowering()


def test_another_machine(sdk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(BackendUnavailable, match="x86-64 with Linux, and this is aarch64"):
        check_lowering()
