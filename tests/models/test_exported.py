"""What was made of the catalogue's models for other runtimes, and runs here too."""

from pathlib import Path

import pytest

from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.defaults import defaults_of
from falcon_runtime.models.exported import EXPORTED, Exported
from falcon_runtime.models.library import Model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Exported(
        name="starter-stock",
        title=STARTER.title,
        target="stock",
        recipe="int4",
        parameters=1,
        context=64,
        licence="",
        catalogued=STARTER.name,
        source="source.gguf",
        source_sha256="0" * 64,
        program_bytes=1,
        program_sha256="0" * 64,
        versions={},
    ).save(tmp_path)
    return tmp_path


def test_it_is_used_as_the_catalogue_says(folder: Path) -> None:
    defaults = defaults_of(Model("starter-stock", folder).known, None)
    assert defaults.system == STARTER.system
    assert defaults.sampling.temperature == STARTER.sampling["temperature"]
    assert not Model("starter-stock", folder).needs_provisioning


@pytest.mark.parametrize(("old", "new"), [(STARTER.name, "somebody's"), (f'"{STARTER.name}"', '""'), ("{", "")])
def test_of_others_and_of_damaged_ones_nothing_is_known(folder: Path, old: str, new: str) -> None:
    path = folder / EXPORTED
    path.write_text(path.read_text().replace(old, new))
    assert Model("starter-stock", folder).known is None
