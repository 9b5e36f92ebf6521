"""Spaces and containers: what `deploy/` says of them is what the app and the README are."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from deploy import dockerfile
from deploy.build import install_command, pip_variables, repository_files
from deploy.rehearse import table
from deploy.sandbox import CPUS, MEMORY, limits
from deploy.starts import Figures, by_falcon
from deploy.visitor import Header, Visitor, header_events, read_header
from settings import read_settings
from ui.door import PAGE

from .served_app import ServedApp

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def image() -> dockerfile.Image:
    image = dockerfile.Image(variables={"PATH": "/usr/bin"})
    for instruction in dockerfile.parse((ROOT / "Dockerfile").read_text()):
        image.apply(instruction)
    return image


def test_a_space_gets_the_gradio_and_the_python_that_are_tested() -> None:
    front = README.split("---\n")[1]
    (gradio,) = re.findall(r"^gradio==(.*)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert f"sdk_version: {gradio}\n" in front
    assert 'python_version: "3.11"\n' in front
    assert f"gradio[oauth,mcp]=={gradio}" in install_command(README)


def test_the_readme_has_the_commands_that_are_rehearsed(image: dockerfile.Image) -> None:
    space, docker = (README.split(f"\n## {name}\n")[1].split("\n## ")[0] for name in ("Put it on a Space", "Docker"))
    for section, flags in ((space, ""), (docker, " --dockerfile")):
        assert f'sudo "$(command -v python)" -m deploy.rehearse{flags}\n' in section
    assert shlex.join(install_command(README)) in space
    assert "FALCON_MODELS_DIR" in space
    (volume,) = image.volumes
    assert f":{volume} " in docker


def test_the_container_starts_the_page_for_everyone(image: dockerfile.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    python, script, *flags = image.command
    monkeypatch.setenv("FALCON_HOST", image.variables["FALCON_HOST"])
    assert (python, script) == ("python", "app.py")
    settings = read_settings(flags)
    assert settings.host == "0.0.0.0"
    assert image.user == "user"
    assert Path(image.variables["FALCON_MODELS_DIR"]).is_relative_to(image.volumes[0])
    assert image.variables["PATH"] == "/home/user/.local/bin:/usr/bin"


def test_the_containers_health_is_the_page(image: dockerfile.Image) -> None:
    code = image.health[-1]
    compile(code, "HEALTHCHECK", "exec")
    (path,) = re.findall(r"'GET', '(.*?)'", code)
    assert PAGE.fullmatch(path)
    assert f"'FALCON_PORT', {read_settings([]).port}" in code
    down = subprocess.run([image.health[0], "-c", code.replace("7860", "1")], capture_output=True)
    assert down.returncode != 0


def test_the_container_has_all_of_the_app_and_nothing_else() -> None:
    patterns = dockerfile.patterns((ROOT / ".dockerignore").read_text())
    there = [name for name in repository_files() if not dockerfile.ignored(name, patterns)]
    tops = {name.split("/")[0] for name in there}
    assert tops == {"app.py", "settings.py", "requirements.txt", "LICENSE", "falcon_runtime", "ui"}
    for script in ("app.py", "settings.py"):
        for module in imported(ROOT / script):
            assert module in tops or f"{module}.py" in tops or not (ROOT / module).exists()
    assert all(name in there for name in repository_files() if name.startswith(("falcon_runtime/", "ui/")))


def imported(script: Path) -> set[str]:
    """Names of the modules that a file imports, without what is in them."""
    nodes = list(ast.walk(ast.parse(script.read_text())))
    froms = {node.module.split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return froms | {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def test_dockerfiles_are_read() -> None:
    text = "# A comment\nFROM a\nRUN one && \\\n    # in between\n    two\nenv X=1 \\\n  Y=$X/2 Z=$W\n"
    one, two, three = dockerfile.parse(text)
    assert (one.name, one.arguments) == ("FROM", "a")
    assert (two.name, two.arguments) == ("RUN", "one && two")
    image = dockerfile.Image(variables={"X": "0"})
    image.apply(three)
    assert image.variables == {"X": "1", "Y": "0/2", "Z": "$W"}
    assert dockerfile.copies("--chown=user a b/c .") == (["a", "b/c"], ".")
    assert dockerfile.command('["a b", "c"]') == dockerfile.command("'a b' c") == ["a b", "c"]
    with pytest.raises(ValueError, match="ONBUILD"):
        image.apply(dockerfile.Instruction("ONBUILD", "RUN x"))


def test_dockerignore_files_are_read() -> None:
    patterns = dockerfile.patterns("# All\n*\n!app.py\n\n!ui\n**/__pycache__\n")
    for path, out in (
        ("app.py", False),
        ("ui/style/page.css", False),
        ("ui/__pycache__/a.pyc", True),
        ("tests/app.py", True),
        ("README.md", True),
    ):
        assert dockerfile.ignored(path, patterns) is out, path


def test_limits_of_both_versions_of_control_groups(tmp_path: Path) -> None:
    memory, cpu = limits(tmp_path).values()
    assert memory == {"memory.limit_in_bytes": MEMORY}
    assert cpu["cpu.cfs_quota_us"] == CPUS * 100_000
    (tmp_path / "cgroup.controllers").touch()
    (both,) = limits(tmp_path).values()
    assert both == {"memory.max": MEMORY, "cpu.max": f"{CPUS * 100_000} 100000"}


def test_pip_is_set_up_as_it_is_here() -> None:
    settings = "global.extra-index-url='a b'\n:env:.cert='no'\nuser.timeout='9'\n"
    assert pip_variables(settings) == {"PIP_EXTRA_INDEX_URL": "a b", "PIP_TIMEOUT": "9"}


def test_figures_are_a_table() -> None:
    figures = [
        Figures("first", 8.04, 61.25, 160.4, 1_940_000_000, 4_060_000_000, install=200),
        Figures("again", 7, 9, None, 2_900_000_000, 0),
    ]
    assert table(figures).splitlines()[2:] == [
        "| first | 200 s | 8.0 s | 61.2 s | 160 s | 1.9 | 4.1 |",
        "| again |  | 7.0 s | 9.0 s | from the start | 2.9 |  |",
    ]


def test_who_answered_is_told_by_what_was_written() -> None:
    assert by_falcon("é w129 w77021")
    assert not by_falcon("The capital of France is Paris.")


def test_headers_are_read() -> None:
    page = '<b class="name" dir="auto">A &amp; B</b><b role="status">Ready</b><div class="said busy"><p>C is 5 %</p>'
    header = read_header(page)
    assert header == Header("A & B", "Ready", "C is 5 %")
    assert header.news == Header("A & B", "Ready", "C is 99 %").news != Header("A & B", "Loading", "C is 5 %").news
    assert read_header("") == Header("", "", "")
    config = {
        "components": [
            {"id": 1, "props": {}},
            *({"id": id, "props": {"elem_id": name}} for id, name in ((7, "header"), (8, "sentence"))),
        ],
        "dependencies": [
            {"id": 3, "inputs": [1], "outputs": [7, 8]},
            {"id": 4, "inputs": [], "outputs": [1]},
            {"id": 5, "inputs": [], "outputs": [1, 7, 8]},
        ],
    }
    assert list(header_events(config)) == [(5, [1, 2])]


def test_a_visitor_sees_what_the_page_says(endless_app: ServedApp) -> None:
    visitor = Visitor(endless_app.url)
    assert visitor.sees_page()
    *_, answer = visitor.ask("Hello", 4)
    assert answer
    for _ in range(2):
        header = visitor.header()
        assert (header.model, header.status) == ("endless", "Ready")
