"""A model is replaced as a whole, or stays what it was, whatever happens meanwhile."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from falcon_runtime.models.library import converted_models, find_model
from falcon_runtime.models.manifest import MANIFEST
from falcon_runtime.system.replacement import lock_of, recover, replacement

DIES_BETWEEN = """
import os, sys
from pathlib import Path
from falcon_runtime.system.replacement import lock_of, replacement

rename, renamed = os.replace, []

def dying(source, target):
    if renamed:
        os._exit(9)
    renamed.append(source)
    rename(source, target)

os.replace = dying
with lock_of(model := Path(sys.argv[1])), replacement(model) as folder:
    (folder / "manifest.json").write_text("new")
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / MANIFEST).write_text("earlier")
    return folder


def content(model: Path) -> str:
    """What stands there; nothing else may be left beside it but its lock."""
    assert {path.name for path in model.parent.iterdir()} <= {model.name, f".{model.name}.lock"}
    return (model / MANIFEST).read_text()


@pytest.mark.parametrize("there", [True, False])
def test_a_whole_one_takes_its_place(model: Path, there: bool) -> None:
    model = model if there else model.with_name("another")
    with lock_of(model), replacement(model) as folder:
        (folder / MANIFEST).write_text("new")
        assert model.exists() == there
    assert (model / MANIFEST).read_text() == "new"


def test_one_that_fails_leaves_the_earlier_one(model: Path) -> None:
    with pytest.raises(FileNotFoundError), lock_of(model), replacement(model) as folder:
        (folder / "nowhere" / MANIFEST).write_text("new")
    assert content(model) == "earlier"


def test_a_rename_that_fails_leaves_the_earlier_one(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.replace

    def fail_on_the_new_one(source: Path, target: Path) -> None:
        if str(source).endswith(".partial"):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_on_the_new_one)
    with pytest.raises(OSError, match="no"), lock_of(model), replacement(model) as folder:
        (folder / MANIFEST).write_text("new")
    assert content(model) == "earlier"


@pytest.mark.parametrize("by", ["its name", "the list", "its folder", "the next replacement"])
def test_a_process_that_dies_between_the_renames_loses_nothing(model: Path, by: str) -> None:
    died = subprocess.run([sys.executable, "-c", DIES_BETWEEN, str(model)], cwd=Path(__file__).parents[2])
    assert died.returncode == 9
    assert not model.exists(), "the process was to end at the worst moment"
    if by == "its name":
        assert find_model("model", model.parent).folder == model
    elif by == "the list":
        assert converted_models(model.parent) == ["model"]
    elif by == "its folder":
        assert find_model(str(model), model.parent / "elsewhere").folder == model
    else:
        with pytest.raises(FileNotFoundError), lock_of(model), replacement(model) as folder:
            (folder / "nowhere" / MANIFEST).write_text("new")
    assert (model / MANIFEST).read_text() == "earlier"


def test_what_is_being_replaced_is_left_alone(model: Path) -> None:
    earlier = model.rename(model.with_name(".model.earlier"))
    with lock_of(model):
        recover(model.parent)
        assert earlier.exists()
    recover(model.parent)
    assert content(model) == "earlier"
