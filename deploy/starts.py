"""Starts of the app, visited and timed."""

import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from falcon_runtime.models.catalog import STARTER

from .checkpoint import WORD
from .sandbox import end
from .visitor import Header, Visitor, wait_until

if TYPE_CHECKING:
    from .build import Build

PORT = 7860
STARTS_WITHIN_S, SWAPS_WITHIN_S = 600, 1800
QUESTION, TOKENS = "What is the capital of France?", 16
TROUBLE = re.compile(r"Traceback|Error\b|Permission denied|Read-only file system")


@dataclass
class Figures:
    """What one start took: seconds from the command on, and the most memory at a time, in bytes."""

    what: str
    page: float
    token: float
    swap: float | None
    """Until a request was answered by the Falcon; None where the first one was."""
    serving: int
    """Of the app and its engines, while nothing was converted."""
    converting: int
    """Of all processes, while something was; 0 if nothing was."""
    install: float | None = None
    """Before the first start."""


class Start:
    """Starts the app that `build` has laid out, with a model hub at `endpoint`."""

    def __init__(self, build: "Build", endpoint: str) -> None:
        self._build, self._endpoint = build, endpoint
        self._log = build.place.base / "log"

    def __call__(self, what: str, persistent: bool) -> Figures:
        build, place = self._build, self._build.place
        build.renew()
        variables = build.variables | build.persistent_variables(persistent) | {"HF_ENDPOINT": self._endpoint}
        say(f"{what}: {' '.join(build.command)}")
        with self._log.open("w") as output:
            began = time.monotonic()
            process = place.start(build.command, variables, build.folder, output, persistent)
            memory = Memory(process)
            try:
                page, token, swap = Visit(process, self._log, began).times()
                self._check_health(variables, persistent, healthy=True)
            finally:
                memory.stop()
                end(process)
        self._check_health(variables, persistent, healthy=False)
        for line in dict.fromkeys(self._log.read_text().splitlines()):
            if TROUBLE.search(line):
                say(f"  in the log: {line}")
        return Figures(what, page, token, swap, memory.serving, memory.converting)

    def _check_health(self, variables: dict[str, str], persistent: bool, healthy: bool) -> None:
        if self._build.health:
            code = self._build.place.run(self._build.health, variables, self._build.folder, persistent)
            if (code == 0) != healthy:
                raise RuntimeError(f"The health check ends with {code}, and the app is {'up' if healthy else 'down'}.")
            say(f"  the health check ends with {code} while the app is {'up' if healthy else 'down'}")


class Visit:
    """A visitor who comes at once, and stays until the Falcon has answered."""

    def __init__(self, process: psutil.Popen, log: Path, began: float) -> None:
        self._process, self._log, self._began = process, log, began
        self._visitor = Visitor(f"http://127.0.0.1:{PORT}")
        self._said: Header | None = None

    def times(self) -> tuple[float, float, float | None]:
        """Seconds until the page, the first token, and the Falcon's answer (None if it gave the first)."""
        wait_until(self._sees_page, STARTS_WITHIN_S, 0.1, self._log.read_text)
        page = self._passed("the page is up")
        answers = self._visitor.ask(QUESTION, TOKENS)
        next(answers)
        token = self._passed("the first token")
        *_, answer = answers
        self._passed(f"the whole answer: {answer!r}")
        if by_falcon(answer):
            return page, token, None
        wait_until(self._sees_falcon, SWAPS_WITHIN_S, 1, self._log.read_text)
        *_, answer = self._visitor.ask(QUESTION, TOKENS)
        if not by_falcon(answer):
            raise RuntimeError(f"The page says that {self._said} answers, and it did not: {answer!r}")
        return page, token, self._passed(f"the Falcon's answer: {answer!r}")

    def _sees_page(self) -> bool:
        self._check_runs()
        return self._visitor.sees_page()

    def _sees_falcon(self) -> bool:
        """Whether the page says that a Falcon answers. What else it says is printed, each sentence once."""
        self._check_runs()
        header = self._visitor.header()
        if self._said is None or header.news != self._said.news:
            self._passed(f"the page says: {header}")
        self._said = header
        return header.model != STARTER.title and header.status == "Ready"

    def _check_runs(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"The app has ended:\n{self._log.read_text()}")

    def _passed(self, what: str) -> float:
        seconds = time.monotonic() - self._began
        say(f"  {seconds:.1f} s: {what}")
        return seconds


class Memory:
    """Watches how much memory an app takes with all that it has started."""

    def __init__(self, process: psutil.Popen) -> None:
        self.serving = self.converting = 0
        self._process, self._over = process, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                resident = sum(each.memory_info().rss for each in family)
                converting = any("falcon_runtime.convert.worker" in each.cmdline() for each in family)
            except psutil.NoSuchProcess:
                continue
            if converting:
                self.converting = max(self.converting, resident)
            else:
                self.serving = max(self.serving, resident)


def by_falcon(answer: str) -> bool:
    """Whether the model with random weights has written this: its tokens are words of its own."""
    return WORD.search(answer) is not None


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def say(words: str) -> None:
    print(words, flush=True)
