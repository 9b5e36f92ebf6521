"""Imports that are put off or left out."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from falcon_runtime.system.imports import execute_late, leave_out


def test_a_package_is_executed_when_something_of_its_own_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "outer_of_two" / "slow_to_import"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .other import NUMBER\nNUMBER += 1\n")
    (package / "other.py").write_text("NUMBER = 1\n")
    (package / "quick.py").write_text("WORD = 'quick'\n")
    monkeypatch.syspath_prepend(tmp_path)
    name = "outer_of_two.slow_to_import"
    execute_late(name)
    assert import_module(f"{name}.quick").WORD == "quick"
    assert f"{name}.other" not in sys.modules
    with pytest.raises(ImportError):
        exec(f"from {name} import NOBODY")
    assert sys.modules[name].NUMBER == 2
    execute_late(name)
    assert sys.modules[name].NUMBER == 2


def test_what_is_left_out_is_not_there() -> None:
    leave_out("nobody_installed_this")
    assert find_spec("nobody_installed_this") is None
    with pytest.raises(ImportError):
        import_module("nobody_installed_this")


def test_a_conversion_needs_no_exporter(small_checkpoint: Path, tmp_path: Path) -> None:
    """Its import would take longer than the rest of a small conversion."""
    code = (
        "import sys; from falcon_runtime.convert import convert; from pathlib import Path\n"
        "convert(sys.argv[1], Path(sys.argv[2]), 'int8', output=Path(sys.argv[2], 'out'))\n"
        "assert 'executorch.exir.schema' in sys.modules and 'executorch.exir.program' not in sys.modules\n"
        "from executorch.exir import to_edge"
    )
    subprocess.run([sys.executable, "-c", code, small_checkpoint, tmp_path], check=True)
