"""The real app, served for the tests that talk to it from outside."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from gradio_client import Client
from gradio_client.client import Job

from .forked_app import NO_HUB, READ_AT_IMPORT, ForkedApp, fork_app

ROOT = Path(__file__).parents[1]
STARTS_WITHIN_S = 600
RUNS_S = 0.02


@dataclass
class ServedApp:
    url: str
    process: psutil.Popen | ForkedApp
    log: Path
    """What the app has written."""

    def worker(self) -> psutil.Process:
        """The engine's process, as soon as there is one and the app, which has started it, has had time to note it."""
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            if (workers := self.workers()) and workers[0].cpu_times().user >= 0.1:
                return workers[0]
            time.sleep(0.02)
        raise AssertionError(f"The app started no engine within {STARTS_WITHIN_S} s.")

    def workers(self) -> list[psutil.Process]:
        """The processes of all engines that run now."""
        return engines_of(self.process)


def engines_of(process: psutil.Process | ForkedApp) -> list[psutil.Process]:
    """The processes of all engines that it, or one that it has started, runs now."""
    children = process.children(recursive=True)
    return [child for child in children if "falcon_runtime.engine.worker" in child.cmdline()]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_end(processes: Iterable[psutil.Process]) -> None:
    """Until all have ended. That whoever has to know of it has been told is not waited for."""

    def runs(process: psutil.Process) -> bool:
        with suppress(psutil.NoSuchProcess):
            return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
        return False

    wait_until(lambda: not any(map(runs, processes)))


def is_idle(process: psutil.Process) -> bool:
    """Whether it does nothing for a second."""
    before = sum(process.cpu_times()[:2])
    time.sleep(1)
    return bool(sum(process.cpu_times()[:2]) - before < 0.02)


@contextmanager
def slowed(engine: psutil.Process) -> Iterator[None]:
    """Lets the engine run for a fifth of the time only: on any processor an answer takes longer than what is done in
    the midst of it."""
    over = threading.Event()

    def slow() -> None:
        with suppress(psutil.NoSuchProcess):
            while not over.wait(RUNS_S):
                engine.suspend()
                over.wait(4 * RUNS_S)
                engine.resume()

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def serve(models_dir: Path, log: Path, *flags: str, afresh: bool = False, **env: str) -> Iterator[ServedApp]:
    """Runs the app on a free port; its page is there, its model perhaps not yet. Its output goes to `log`.

    `afresh` and `env` are those of `begin_app`.
    """
    port = free_port()
    with log.open("w") as output:
        flags = "--port", str(port), *flags
        process = begin_app(models_dir, output.fileno(), output.fileno(), *flags, afresh=afresh, **env)
        app = ServedApp(f"http://127.0.0.1:{port}", process, log)
        try:
            wait_for_page(app)
            yield app
        finally:
            with suppress(psutil.NoSuchProcess):  # Some tests end it.
                app.process.terminate()
            app.process.wait()


def begin_app(
    models_dir: Path, output: int, errors: int, *flags: str, afresh: bool = False, **env: str
) -> psutil.Popen | ForkedApp:
    """The app with these flags and variables, writing into these open files.

    It is a fork of a process that has imported it, which saves seconds; or `python app.py` itself, if it is to start
    `afresh` or has variables that a fork is too late for.
    """
    if afresh or any(name.startswith(READ_AT_IMPORT) for name in env):
        return start_app(models_dir, output, errors, *flags, **env)
    return fork_app(flags, output, errors, environment(models_dir, **env))


def start_app(models_dir: Path, output: int, errors: int, *flags: str, **env: str) -> psutil.Popen:
    """`python app.py`."""
    return psutil.Popen(
        [sys.executable, str(ROOT / "app.py"), *flags],
        env=environment(models_dir, **env),
        stdout=output,
        stderr=errors,
        text=True,
    )


def environment(models_dir: Path, **env: str) -> dict[str, str]:
    """The app's variables, with `env`. It reaches no model hub."""
    return os.environ | {"FALCON_MODELS_DIR": str(models_dir), "HF_ENDPOINT": NO_HUB} | env


def wait_for_page(app: ServedApp) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        assert app.process.poll() is None, app.log.read_text()
        try:
            httpx.get(app.url, timeout=5, trust_env=False).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"The page did not open within {STARTS_WITHIN_S} s:\n{app.log.read_text()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def connect(app: ServedApp) -> Client:
    return Client(app.url, verbose=False)


def wait_for_text(job: Job) -> str:
    """The first text of a job that is still running."""
    while not (outputs := [piece for piece in job.outputs() if piece]):
        assert not job.done(), job.exception()
        time.sleep(0.02)
    return str(outputs[-1])
