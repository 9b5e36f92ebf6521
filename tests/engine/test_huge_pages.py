"""Weights that move into huge pages under those who read them."""

import hashlib
import mmap
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from falcon_runtime.engine.huge_pages import PAGE, PIECE, SYSTEM, HugePages
from falcon_runtime.runtime import FalconRuntime
from falcon_runtime.sampling import SamplingParams

BYTES = 3 * PIECE + 5 * PAGE + 12_345
HAS_THEM = SYSTEM.exists() and "[never]" not in (SYSTEM / "enabled").read_text()
needs_them = pytest.mark.skipif(not HAS_THEM, reason="this system has no huge pages")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a file of weights"
    path.write_bytes(np.random.default_rng(0).bytes(BYTES))
    return path


@pytest.fixture
def mapped(file: Path) -> Iterator[mmap.mmap]:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def of_file(path: Path) -> int:
    """Bytes that are mapped of a file."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    ends = [[int(address, 16) for address in line[0].split("-")] for line in lines]
    return sum(end - begin for begin, end in ends)


@needs_them
def test_all_that_fills_huge_pages_moves_and_stays_what_it_was(file: Path, mapped: mmap.mmap) -> None:
    """Also for who reads it meanwhile."""
    expected, over, seen = hashlib.sha256(file.read_bytes()).digest(), threading.Event(), set()

    def read() -> None:
        while not over.is_set():
            seen.add(hashlib.sha256(mapped).digest())

    weights = HugePages(lambda: BYTES)
    weights.add(file)
    with_reader = threading.Thread(target=read)
    with_reader.start()
    pieces = 0
    while weights.left:
        weights.move()
        pieces += 1
    over.set()
    with_reader.join()
    assert pieces == 4
    assert seen == {expected}
    assert hashlib.sha256(mapped).digest() == expected
    assert of_file(file) < 2 * PAGE
    weights.add(file)
    assert not weights.left


@needs_them
def test_it_takes_no_more_time_or_memory_than_it_may(file: Path, mapped: mmap.mmap) -> None:
    weights = HugePages(lambda: PIECE - 1)
    weights.add(file)
    assert weights.left
    weights.move(60)
    assert not weights.left
    assert of_file(file) >= BYTES
    weights = HugePages(lambda: BYTES)
    weights.add(file)
    weights.move(0)
    assert weights.left
    weights.move(60)
    assert not weights.left
    assert mapped[:] == file.read_bytes()


@needs_them
def test_a_file_that_another_one_replaces_stays_what_was_mapped(file: Path, mapped: mmap.mmap) -> None:
    """As when a model is converted again while its engine runs."""
    expected = file.read_bytes()
    weights = HugePages(lambda: BYTES)
    weights.add(file)
    file.unlink()
    file.write_bytes(bytes(BYTES))
    weights.move(60)
    assert not weights.left
    assert mapped[:] == expected


def test_a_system_without_them(file: Path, mapped: mmap.mmap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("falcon_runtime.engine.huge_pages.SYSTEM", tmp_path)
    (tmp_path / "hpage_pmd_size").write_text(f"{PAGE}\n")
    for words in ("always madvise [never]\n", None):
        if words:
            (tmp_path / "enabled").write_text(words)
        else:
            (tmp_path / "enabled").unlink()
        weights = HugePages(lambda: BYTES)
        weights.add(file)
        assert not weights.left


@needs_them
def test_an_engine_has_its_weights_there(starter_models_dir: Path) -> None:
    """As long as nothing else takes the memory: then it reads them from the file, and answers as well."""
    folder = starter_models_dir / "smollm2-135m-instruct"
    with FalconRuntime(str(folder)) as runtime:
        list(runtime.generate("Once", SamplingParams(max_new_tokens=1)))
        program = runtime.manifest.program_bytes
        lines = Path(f"/proc/{runtime.engine_pid}/maps").read_text().splitlines()
        still = [line for line in lines if line.endswith(str((folder / "model.pte").resolve()))]
        sizes = [[int(address, 16) for address in line.split()[0].split("-")] for line in still]
        assert sum(end - begin for begin, end in sizes) < program / 4
