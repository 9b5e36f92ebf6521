"""The parent's side of the engine: requests go to its process, and its death costs as little as it can."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import EngineDied, FalconError, ModelDamaged, RuntimeClosed
from ..models.drafts import DraftSource, DraftWish
from ..sampling import SamplingParams
from .process import EngineProcess, ProcessGone
from .stream import StepStream

logger = logging.getLogger(__name__)

MAX_DEATHS = 5
"""So many processes in a row that served nobody, and the engine waits for the next request before it tries again."""
MAX_LOST = 3
"""So many may end while a request is the next to be worked on: perhaps it is what ends them."""
MAX_PAUSE_S = 60


class Engine:
    """One model's engine: a process that is started when it is needed, and again after it has died. Thread-safe.

    Requests that still waited when it died are served by the next process; those that it had begun end with EngineDied.
    Each process looks anew for the draft model that is wished for.
    """

    def __init__(self, folder: Path, threads: int | None, wish: DraftWish):
        self._folder, self._threads, self._wish = folder, threads, wish
        self._lock = threading.Lock()
        self._process: EngineProcess | None = None
        self._newest: EngineProcess | None = None
        """The process that was started last, be it ready or not."""
        self.forwards: Mapping[int, float] = {}
        """Seconds of forwards by their tokens, as measured at the last start."""
        self._closing = threading.Event()
        self._deaths = 0
        """Of processes in a row that served nobody."""
        self._not_before = 0.0
        """`time.monotonic()` of the next start."""
        self.reviving = False
        """Whether it has died and comes back by itself."""
        self.draft: DraftSource | None = None
        """The draft model of the process that was started last."""
        self.draft_problem: str | None = None
        """Why there is none, in a sentence, where one might be expected."""
        self.restarted_at: float | None = None
        """`time.monotonic()` when the process was last started again after one had ended; None if never."""

    @property
    def alive(self) -> bool:
        """Whether the process runs, its model loaded."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int | None:
        """The process's id; None before the first start."""
        return self._process.pid if self._process else None

    @property
    def pause_s(self) -> float:
        """Seconds until a process that died is started again."""
        return max(0.0, self._not_before - time.monotonic())

    def start(self, on_compiling: Callable[[], None] = lambda: None) -> None:
        """Starts the process unless it runs; `on_compiling` is called if the kernels have to be compiled for this
        processor first. Errors: what `read_manifest` and `Program` raise, and `DraftWish.find` where the draft model is
        required; RuntimeClosed."""
        with self._lock:
            self._running(on_compiling)

    def submit(self, tokens: Sequence[int], params: SamplingParams | None) -> StepStream:
        """Continues `tokens`, or scores them where `params` is None. Errors: as `start`."""
        stream = StepStream(tuple(tokens), params)
        self._hand_over(stream)
        return stream

    def close(self) -> None:
        """Ends the process, also one that is just starting."""
        self._closing.set()  # Not under the lock, which a start holds.
        if self._newest:
            self._newest.stop()

    def halt(self) -> None:
        """Ends a process that runs, until the next start."""
        if self._process:
            self._process.dismiss()

    def _hand_over(self, stream: StepStream) -> None:
        while True:
            with self._lock:
                process = self._running()
            try:
                return process.submit(stream)
            except ProcessGone:
                pass  # It died just now.

    def _running(self, on_compiling: Callable[[], None] = lambda: None) -> EngineProcess:
        self._check_open()
        if self._process is None or not self._process.alive:
            again = self._process is not None
            self._closing.wait(self.pause_s)
            draft = self._find_draft()
            self._newest = EngineProcess(self._folder, self._threads, draft, self._wish.binding, self._ended)
            if self._closing.is_set():
                self._newest.stop()
            try:
                ready = self._newest.await_ready(on_compiling)
            except ModelDamaged:
                self._check_open()  # Else it was `close` that ended it.
                self._count_death()
                raise
            self._process = self._newest
            self.forwards = ready.forwards
            self.draft = draft if ready.draft_model else None
            if ready.draft_problem:
                self._lacks_draft(ready.draft_problem)
            if again:
                self.restarted_at = time.monotonic()
        return self._process

    def _find_draft(self) -> DraftSource | None:
        self.draft_problem = None
        try:
            return self._wish.find()
        except FalconError as error:
            if self._wish.binding:
                raise
            self._lacks_draft(error)
            return None

    def _lacks_draft(self, error: FalconError) -> None:
        self.draft_problem = str(error)
        logger.warning("%s is used without a draft model: %s", self._wish.model.title, self.draft_problem)

    def _ended(self, process: EngineProcess, streams: Sequence[StepStream], cause: str) -> None:
        """What a process that ended leaves behind. Called by the thread that listened to it."""
        error = EngineDied(
            f"The engine's process ended while it was working ({cause}). Nothing you wrote is lost: continue the "
            "answer, or send it again."
        )
        self._deaths = 0 if process.served else self._deaths
        self._count_death()
        waiting = list[StepStream]()
        for stream in streams:
            stream.lost += 1
            if stream.begun or stream.lost >= MAX_LOST or self._closing.is_set() or self._deaths >= MAX_DEATHS:
                stream.fail(error)
            else:
                waiting.append(stream)
        if not self._closing.is_set() and self._deaths < MAX_DEATHS:
            self._revive(waiting)

    def _revive(self, waiting: Sequence[StepStream]) -> None:
        self.reviving = True
        left = list(waiting)
        try:
            self.start()
            while left:
                self._hand_over(left[0])
                left.pop(0)
        except FalconError as error:
            for stream in left:
                stream.fail(error)
        finally:
            self.reviving = False

    def _count_death(self) -> None:
        """At first it is started again at once, then after pauses that double."""
        self._deaths += 1
        pause = min(MAX_PAUSE_S, 2 ** (self._deaths - 2)) if self._deaths > 1 else 0
        self._not_before = time.monotonic() + pause

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise RuntimeClosed("The runtime is closed. Make a new FalconRuntime.")
