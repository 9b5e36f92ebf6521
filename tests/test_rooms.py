"""The rooms of the library, and which of them may know which others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import falcon_runtime

ROOT = Path(falcon_runtime.__file__).parent
LEAVES = {"chunk", "constraint", "errors", "limits", "sampling", "status"}
"""What everybody may import; they import one another and `system` alone."""
MAY_IMPORT = {
    "system": set(),
    **{leaf: {"system"} for leaf in LEAVES},
    "models": {"system"},
    "text": {"system", "models"},
    "engine": {"system", "models"},
    "convert": {"system", "models", "engine"},
    "generation": {"text", "engine"},
    "runtime": {"system", "models", "text", "engine", "generation"},
    "fleet": {"system", "models", "runtime"},
    "server": {"system", "models", "text", "runtime", "generation", "fleet"},
    "serve_ray": {"system", "models", "runtime", "fleet", "server"},
    "cli": {"system", "models", "text", "engine", "convert", "runtime", "generation", "server", "serve_ray"},
    "__init__": {"runtime", "generation", "text"},
    "__main__": {"cli"},
}


def imported(file: Path, root: Path = ROOT) -> Iterator[tuple[str, ...]]:
    """The modules of its own package that a file imports, each as its path in the package."""
    package = file.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            base = tuple(filter(None, base))
            yield from [base] if node.module else [(*base, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not any((name or "").partition(".")[0] == root.name for name in names), "imports are relative here"


@pytest.mark.parametrize("file", ROOT.rglob("*.py"), ids=lambda file: str(file.relative_to(ROOT)))
def test_arrows_between_rooms_point_one_way(file: Path) -> None:
    room = file.relative_to(ROOT).with_suffix("").parts[0]
    leaves = LEAVES if room != "system" else {"errors", "status"}
    for module in imported(file):
        if module and module[0] not in (room, "__doc__"):
            assert module[0] in MAY_IMPORT[room] | leaves, f"{file} imports {'.'.join(module)}"


@pytest.mark.parametrize("file", [*ROOT.rglob("*.py"), *ROOT.parent.glob("ui/**/*.py")], ids=lambda file: file.name)
def test_nothing_goes_by_a_clock_that_may_be_set(file: Path) -> None:
    assert "time.time(" not in file.read_text()


@pytest.mark.parametrize("root", [ROOT, ROOT.parent / "ui"])
def test_no_modules_import_each_other(root: Path) -> None:
    files = {file.relative_to(root).with_suffix("").parts: file for file in root.rglob("*.py")}
    arrows = {name: {module for module in imported(file, root) if module in files} for name, file in files.items()}
    done: set[tuple[str, ...]] = set()

    def follow(name: tuple[str, ...], path: tuple[tuple[str, ...], ...]) -> None:
        assert name not in path, f"a circle: {path[path.index(name) :]}"
        if name not in done:
            for other in arrows[name]:
                follow(other, (*path, name))
            done.add(name)

    for name in files:
        follow(name, ())


def test_the_page_is_not_known_to_the_library() -> None:
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.partition(".")[0] for name in names} & {"ui", "gradio", "app"}, file
