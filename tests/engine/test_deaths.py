"""What the death of an engine's process costs: as little as it can."""

import time
from pathlib import Path

import psutil
import pytest

from falcon_runtime import FalconRuntime, Generation
from falcon_runtime.engine import process
from falcon_runtime.errors import EngineDied
from tests.served_app import wait_until
from tests.test_runtime import GREEDY, LONG, newest_worker, tokens_of


def test_a_killed_engine_is_one_clear_error_and_the_next_request_works(small_model: Path) -> None:
    with FalconRuntime(str(small_model)) as runtime:
        assert runtime.restarted_at is None
        generation, worker = begun(runtime)
        killed_at = time.monotonic()
        worker.kill()
        with pytest.raises(EngineDied, match=r"SIGKILL.*send it again"):
            list(generation)
        assert runtime.decode([65])  # Without an engine.
        assert len(tokens_of(list(runtime.generate("A", GREEDY)))) == 24
        assert newest_worker().pid != worker.pid
        assert runtime.restarted_at
        assert killed_at <= runtime.restarted_at <= time.monotonic()


def begun(runtime: FalconRuntime) -> tuple[Generation, psutil.Process]:
    """A long answer of which there is some text, and its engine, which is halted so that it cannot finish."""
    runtime.load()
    worker = newest_worker()
    generation = runtime.generate("A", LONG)
    next(chunk for chunk in generation if chunk.token_ids)
    worker.suspend()
    return generation, worker


def test_an_engine_that_dies_comes_back_by_itself(small_model: Path) -> None:
    with FalconRuntime(str(small_model)) as runtime:
        runtime.load()
        for _ in range(2):  # The second time after a pause: the first one served nobody.
            worker = newest_worker()
            worker.kill()
            wait_until(lambda: runtime.status.state == "loading")
            assert runtime.status.message.startswith("The engine stopped and is restarting")
            wait_until(lambda: runtime.status.state == "ready")
            assert newest_worker().pid != worker.pid
        assert len(tokens_of(list(runtime.generate("A", GREEDY)))) == 24


def test_who_waits_is_served_by_the_next_engine(small_model: Path) -> None:
    with FalconRuntime(str(small_model)) as runtime:
        expected = tokens_of(list(runtime.generate("B", GREEDY)))
        generation, worker = begun(runtime)
        waiting, dropped = runtime.generate("B", GREEDY), runtime.generate("C", LONG)
        dropped.close()
        worker.kill()
        with pytest.raises(EngineDied):
            list(generation)
        assert tokens_of(list(waiting)) == expected
        assert list(dropped)[-1].finish_reason == "cancelled"


def test_an_engine_that_hangs_is_noticed(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE", "PATIENCE_S"):
        monkeypatch.setattr(process, name, 1)
    with FalconRuntime(str(small_model)) as runtime:
        generation, _ = begun(runtime)
        with pytest.raises(EngineDied, match="stopped responding"):
            list(generation)
        assert len(tokens_of(list(runtime.generate("A", GREEDY)))) == 24
