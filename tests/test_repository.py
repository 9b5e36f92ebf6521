"""What strangers expect of the repository: a README that is true, examples that run, a package that installs."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.manifest import read_manifest
from tests.served_app import free_port

ROOT = Path(__file__).parents[1]


def load(path: str) -> ModuleType:
    """A file that is in no package, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readmes_tables_are_those_of_the_code() -> None:
    text = (ROOT / "README.md").read_text()
    assert load("docs/tables.py").filled(text) == text, "run: python docs/tables.py"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", *(f"docs/{f.name}" for f in ROOT.glob("docs/*.md"))])
def test_files_that_are_named_are_there(name: str) -> None:
    text = (ROOT / name).read_text()
    linked = [part.partition(")")[0] for part in text.split("](")[1:]]
    for link in linked:
        if "://" not in link and not link.startswith("#"):
            assert (ROOT / name).parent.joinpath(link.partition("#")[0]).exists(), link


def test_an_answer_is_printed(small_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("examples/answer.py").main("Hello", str(small_model))
    assert "tokens, finish reason: " in capsys.readouterr().out.splitlines()[-1]


def test_a_checkpoint_is_converted_and_used(
    small_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load("examples/convert_checkpoint.py").main(str(small_checkpoint), str(tmp_path / "model"))
    assert read_manifest(tmp_path / "model").recipe == "int8"
    assert "Converting model" in capsys.readouterr().out


def test_questions_are_answered_together(small_model_slots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("examples/many_at_once.py").main("One?", "Two?", model=str(small_model_slots))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in ("One?", "Two?")] == ["One?", "Two?"]


def test_a_server_and_a_client_of_it(small_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = str(free_port())
    command = [sys.executable, str(ROOT / "examples" / "serve.py"), str(small_model), port]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout
            told = next(line for line in server.stdout if line.startswith("Listening"))
            url = told.split()[1]
            assert url == f"http://127.0.0.1:{port}/v1"
            load("examples/api_client.py").main("Hello", url)
        finally:
            server.terminate()
    assert server.returncode == 0
    assert capsys.readouterr().out.endswith("\n")


def test_facts_are_taken_out_of_a_text(starter_models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "Alice and Bob are going to a science fair in Doha on Friday."
    load("examples/structured.py").main(text, str(starter_models_dir / STARTER.name))
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["what", "where", "who"]


def test_the_package_installs_with_all_that_it_needs(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    source = tmp_path / "source"
    shutil.copytree(ROOT / "falcon_runtime", source / "falcon_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "falcon = falcon_runtime.cli:main" in archive.read(entry_points).decode()
    sources = {
        str(path.relative_to(ROOT)) for path in (ROOT / "falcon_runtime").rglob("*") if path.suffix in (".py", ".pte")
    }
    assert sources | {"falcon_runtime/py.typed"} == {name for name in names if name.startswith("falcon_runtime/")}
    assert any(name.endswith("LICENSE") for name in names)

    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path / "site")}
    environment = {name: value for name, value in os.environ.items() if name != "FALCON_MODELS_DIR"} | cache
    code = "import falcon_runtime.models.library as l; print(l.__file__); print(l.default_models_dir())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"{tmp_path}/site/falcon_runtime/models/library.py",
        f"{tmp_path}/cache/falcon-runtime/models",
    ]
