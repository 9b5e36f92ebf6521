"""Which model a server begins with, which one it prepares, and which one it recommends."""

from pathlib import Path

import pytest

from falcon_runtime.errors import ConversionFailed, DownloadFailed, ModelDamaged, UnknownModel
from falcon_runtime.models import choosing
from falcon_runtime.models.catalog import CATALOG, STARTER
from falcon_runtime.models.choosing import READING_SPEED, Plan
from falcon_runtime.models.library import Model
from falcon_runtime.system.machine import memory_bandwidth

FALCONS = [entry for entry in CATALOG.values() if entry is not STARTER]
SMALL, MIDDLE, *_, LARGE = FALCONS


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> "Machine":
    return Machine(monkeypatch)


class Machine:
    """One with enough of everything for all Falcons, until less is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.memory, self.disk, self.bandwidth = STARTER.memory_bytes + LARGE.memory_bytes, 10**15, 10.0**12
        monkeypatch.setattr(choosing, "available_memory", lambda: self.memory)
        monkeypatch.setattr(choosing, "_free_disk", lambda folder: self.disk)
        monkeypatch.setattr(choosing, "memory_bandwidth", lambda: self.bandwidth)


def plan(models_dir: Path, model: str | None = None, space: bool = False, offline: bool = False) -> Plan:
    return choosing.plan(model, models_dir, space, offline)


def recommended(models_dir: Path) -> str | None:
    choice = plan(models_dir).recommended
    return choice.name if choice else None


def converted(monkeypatch: pytest.MonkeyPatch, converted: Path, *names: str) -> None:
    """Makes the models `names` look converted: `converted` tells of them all."""
    manifest = Model("", converted).manifest()
    of_others = Model.manifest
    monkeypatch.setattr(Model, "manifest", lambda model: manifest if model.name in names else of_others(model))
    monkeypatch.setattr(Model, "needs_provisioning", property(lambda model: model.name not in names))


def test_the_largest_that_fits_and_is_quick_enough_is_recommended(machine: Machine, tmp_path: Path) -> None:
    assert recommended(tmp_path) == LARGE.name
    machine.memory -= 1
    assert recommended(tmp_path) == FALCONS[-2].name
    machine.disk = MIDDLE.download_bytes + MIDDLE.program_bytes
    assert recommended(tmp_path) == MIDDLE.name
    machine.bandwidth = MIDDLE.program_bytes * READING_SPEED * 0.99
    assert recommended(tmp_path) == SMALL.name
    machine.memory = 0
    assert recommended(tmp_path) is None


def test_a_space_prepares_it_while_the_starter_answers(machine: Machine, tmp_path: Path) -> None:
    found = plan(tmp_path, space=True)
    assert (found.first, found.then) == (STARTER.name, LARGE.name)
    found = plan(tmp_path)
    assert (found.first, found.then) == (STARTER.name, None), "elsewhere nothing is downloaded unasked"
    found = plan(tmp_path, space=True, offline=True)
    assert found == Plan(STARTER.name)
    machine.memory = 0
    assert plan(tmp_path, space=True) == Plan(STARTER.name)


def test_on_a_space_what_is_converted_is_used(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, small_model: Path, tmp_path: Path
) -> None:
    converted(monkeypatch, small_model, SMALL.name)
    for offline in (False, True):
        found = plan(tmp_path, space=True, offline=offline)
        assert (found.first, found.then) == (SMALL.name, None)
    assert plan(tmp_path).first == STARTER.name


@pytest.mark.parametrize("space", [False, True])
def test_the_owner_decides(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, small_model: Path, tmp_path: Path, space: bool
) -> None:
    for name in (SMALL.name, f"{LARGE.name}:int8"):
        found = plan(tmp_path, name, space)
        assert (found.first, found.then) == (STARTER.name, name)
    for name in (STARTER.name, f"{STARTER.name}:int8", str(small_model)):
        found = plan(tmp_path, name, space)
        assert (found.first, found.then) == (name, None)
    with pytest.raises(DownloadFailed, match=f"{SMALL.title} is not converted yet, and nothing is downloaded"):
        plan(tmp_path, SMALL.name, space, offline=True)
    assert plan(tmp_path, STARTER.name, space, offline=True) == Plan(STARTER.name)
    with pytest.raises(UnknownModel, match="There is no model 'gpt-5'"):
        plan(tmp_path, "gpt-5", space)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelDamaged, match="is not a converted model"):
        plan(tmp_path, str(tmp_path / "empty"), space)


def test_a_place_to_convert_into_is_needed_only_for_converting(
    machine: Machine, small_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("This is no folder.")
    for name in (None, STARTER.name, SMALL.name):
        with pytest.raises(ConversionFailed, match=f"Nothing can be written into the models folder {file}/models"):
            plan(file / "models", name)
    assert plan(file / "models", str(small_model)).first == str(small_model)


def test_bandwidth_is_measured() -> None:
    assert memory_bandwidth() > 0
    assert memory_bandwidth(threads=3) > 0


def test_a_hub_that_cannot_be_reached_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    problem = choosing.hub_problem(f"{SMALL.name}:int8")
    assert problem
    assert problem.startswith("ConnectError: ")
    assert "\n" not in problem
