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


def test_a_conversion_imports_what_it_needs(small_checkpoint: Path, tmp_path: Path) -> None:
    """The exporter's import takes longer than the rest of a small conversion that does not trace."""
    code = (
        "import sys; from pathlib import Path; from falcon_runtime.system.imports import import_less; import_less()\n"
        "from falcon_runtime.convert import convert\n"
        "checkpoint, folder = sys.argv[1:]\n"
        "convert(checkpoint, Path(folder), 'int8', output=Path(folder, 'out'))\n"
        "assert 'executorch.exir.program' not in sys.modules\n"
        "assert 'executorch.exir.schema' in sys.modules and not sys.modules['sklearn']\n"
        "assert 'transformers.models.llama' not in sys.modules\n"
        # What lowers a module needs all of it, which comes whole.
        "import falcon_runtime.convert.stock.openvino, falcon_runtime.convert.qnn.program\n"
        "assert 'executorch.exir.program' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, small_checkpoint, tmp_path], check=True)
