"""The models of one server: the one that answers, one that is on its way to take over, and one to compare with."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from .errors import FalconError, InvalidRequest, NotEnoughMemory, RuntimeClosed, UnknownModel
from .limits import RequestLimits
from .models.library import Choice, choices, default_models_dir, find_model
from .models.manifest import Backend
from .runtime import FalconRuntime
from .status import Report, Status
from .system.machine import available_memory, default_threads

logger = logging.getLogger(__name__)

IDLE_S = 60
"""Seconds for which a second model is kept when its last lease has ended."""


class Fleet:
    """The runtimes of one server: `current`, to which `switch` makes another one the successor, and while it is leased
    by name a second one beside it. Thread-safe. Its log tells the owner which models could not be loaded, and why.

    Arguments and errors are those of `FalconRuntime`; nothing is loaded before it is used. A draft model drafts for
    those that it can draft for, and the others answer without one. A runtime that has no part
    any more is closed when its last lease has ended. Names are those of `choices`, or a catalogue name with a recipe.
    """

    def __init__(
        self,
        model: str | None = None,
        models_dir: str | Path | None = None,
        backend: Backend = "xnnpack",
        threads: int | None = None,
        limits: RequestLimits | None = None,
        draft: str | None = None,
        chat_template: str | None = None,
    ):
        self._limits, self._draft, self._chat_template = limits, draft, chat_template
        self._models_dir = Path(models_dir) if models_dir else default_models_dir()
        self._backend, self._threads = backend, threads
        # Reentrant, as the garbage collector may end a lease in a thread that holds it.
        self._changed = threading.Condition(threading.RLock())
        self._newest: dict[str, FalconRuntime] = {}
        """The last runtime that was made for each model, by name."""
        self._current = self._make(model)
        self._open: dict[FalconRuntime, str | None] = {self._current: model}
        """The runtimes that are not closed, and what each was made with."""
        self._leases: Counter[FalconRuntime] = Counter()
        self._next: FalconRuntime | None = None
        """The runtime of a switch, until it is loaded or cannot be."""
        self._second: FalconRuntime | None = None
        self._idle: threading.Timer | None = None
        """Runs while the second one is not leased."""
        self._closed = False

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def current(self) -> FalconRuntime:
        """The one that new requests are answered by."""
        return self._current

    @property
    def models_dir(self) -> Path:
        """Where its models are kept."""
        return self._models_dir

    @property
    def threads(self) -> int:
        """How many the engines use."""
        return self._threads or default_threads()

    @property
    def preparing(self) -> FalconRuntime | None:
        """The one that is to become current, whose status tells how far it is."""
        coming = self._next
        return coming if coming is not self._current else None

    @property
    def answering(self) -> int:
        """Leases at this moment, of all runtimes."""
        with self._changed:
            return self._leases.total()

    @contextmanager
    def lease(self, name: str | None = None) -> Iterator[FalconRuntime]:
        """The current runtime for one request or, with the name of another model, a second one beside it, which all
        leases of that name share. `ready` loads it.

        There is one second model at a time; it is closed `IDLE_S` seconds after its last lease, or when another one is
        wanted. Errors: UnknownModel; NotEnoughMemory, also while another second model is leased; InvalidRequest for the
        one that is being prepared to become current.
        """
        with self._changed:
            self._check_open()
            runtime = self._current if name is None else self._named(name)
            self._leases[runtime] += 1
        try:
            self._settle()
            yield runtime
        finally:
            with self._changed:
                self._leases[runtime] -= 1
            self._settle()

    def ready(self, runtime: FalconRuntime) -> None:
        """Returns when a leased runtime can answer: loads it, or waits for the switch that does.

        Errors: those of `FalconRuntime.load`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or runtime is not self._next)
        runtime.load()

    def begin_ready(self, runtime: FalconRuntime) -> "Future[None]":
        """`ready` in a thread of its own, for those who may give up waiting."""
        done = Future[None]()

        def run() -> None:
            try:
                self.ready(runtime)
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, name="falcon-ready", daemon=True).start()
        return done

    def load(self, on_status: Report | None = None) -> None:
        """Loads the current model. If it cannot be, its status tells why, and the next request tries again."""
        runtime = self._current
        self._attempt(runtime, lambda: runtime.load(on_status=on_status))

    def switch(self, name: str, on_status: Report | None = None) -> FalconRuntime:
        """Begins to make another model current, and returns at once, with the runtime that is to be: its status tells
        how far it is, to the end and if it fails; `preparing` is for those who did not ask for it.

        The current one answers until the other is loaded. If memory is too short for both, the other is provisioned,
        takes the requests, and is loaded when the last lease of the former has ended. If it cannot be, the former
        stays.
        Errors: UnknownModel; InvalidRequest while another one is being prepared; NotEnoughMemory if there is too little
        even without the current one.
        """
        with self._changed:
            self._check_open()
            name = self._find(name)
            if name == self._current.name:
                return self._current
            if self._next:
                raise InvalidRequest(f"{self._next.title} is being prepared. Switch again when that is done.")
            if self._second and self._second.name == name:
                coming = self._second
            else:
                coming = self._make(name)
                self._check_fits(coming, self._others(coming))
                self._open[coming] = name
            self._next = coming
        threading.Thread(target=self._prepare, args=(coming, on_status), name="falcon-switch", daemon=True).start()
        return coming

    def decoder(self, name: str) -> Callable[[Sequence[int]], str]:
        """`FalconRuntime.decode` of a model that has answered here, also when it no longer does."""
        return lambda tokens: self._newest[name].decode(tokens)

    def choices(self) -> list[Choice]:
        """The models that can be switched to: the catalogue's, and the other converted ones in the models folder."""
        return choices(self._models_dir)

    def close(self) -> None:
        """Closes every runtime; running generations end with an error. Nothing can be started afterwards."""
        with self._changed:
            self._closed = True
            self._stop_idling()
            self._changed.notify_all()
            still_open = list(self._open)
        for runtime in still_open:
            runtime.close()

    def _make(self, name: str | None) -> FalconRuntime:
        runtime = FalconRuntime(
            name,
            self._models_dir,
            self._backend,
            self._threads,
            self._limits,
            self._draft,
            draft_required=False,
            chat_template=self._chat_template,
        )
        self._newest[runtime.name] = runtime
        return runtime

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeClosed("The fleet is closed. Make a new Fleet.")

    def _find(self, name: str) -> str:
        """The name of the model that `name` stands for. Errors: UnknownModel, also for folders elsewhere: names may
        come from the page, and a visitor must not run what is somewhere on the disk."""
        if name == self._current.name:
            return name
        model = find_model(name, self._models_dir)
        if not model.entry and model.folder.absolute().parent != self._models_dir.absolute():
            names = ", ".join(choice.name for choice in self.choices())
            raise UnknownModel(f"There is no model {name!r} in the models folder. Choose one of: {names}.")
        return model.name

    def _named(self, name: str) -> FalconRuntime:
        """The runtime for a lease by name, which becomes the second one unless it is current."""
        name = self._find(name)
        if name == self._current.name:
            return self._current
        second = self._second
        if second and second.name == name:
            self._check_fits(second)
            return second
        if self._next and self._next.name == name:
            raise InvalidRequest(f"{self._next.title} is being prepared. Ask it again when that is done.")
        if second and self._is_held(second):
            raise NotEnoughMemory(
                f"{second.title} is in use beside {self._current.title}, and only one other model can be loaded. Ask "
                "again when its answers have ended."
            )
        runtime = self._make(name)
        self._check_fits(runtime, [second] if second else [])
        self._open[runtime] = name
        self._second = runtime
        return runtime

    def _is_held(self, runtime: FalconRuntime) -> bool:
        return self._leases[runtime] > 0 or runtime is self._next

    def _others(self, coming: FalconRuntime) -> list[FalconRuntime]:
        """Those that are closed for `coming` if memory is short: all but a second one that is in use."""
        kept = [coming, self._second if self._second and self._is_held(self._second) else None]
        return [runtime for runtime in self._open if runtime not in kept]

    def _room(self, without: Sequence[FalconRuntime]) -> int:
        """Bytes that can be taken when the runtimes in `without` are closed, and the others' KV caches are full."""
        freed = sum(runtime.resident_bytes for runtime in without)
        kept = [runtime for runtime in self._open if runtime not in without]
        return available_memory() + freed - sum(max(0, _takes(runtime) - runtime.resident_bytes) for runtime in kept)

    def _check_fits(self, runtime: FalconRuntime, without: Sequence[FalconRuntime] = ()) -> None:
        """Errors: NotEnoughMemory unless the runtime is loaded, or can be when those in `without` are closed."""
        needed, room = runtime.memory_bytes, self._room(without)
        if needed > room and not _takes(runtime):
            included = f", including that of {' and '.join(other.title for other in without)}" if without else ""
            raise NotEnoughMemory(
                f"{runtime.title} needs {needed / 1e9:.1f} GB of memory, and only {room / 1e9:.1f} GB are available"
                f"{included}. Choose a smaller model or another recipe, or end other programs on this machine."
            )

    def _prepare(self, coming: FalconRuntime, on_status: Report | None) -> None:
        """Loads the runtime of a switch and makes it current."""
        former, loaded = self._open[self._current], False

        def work() -> None:
            coming.provision(on_status)
            self._make_room(coming)
            coming.load(on_status=on_status)

        try:
            loaded = self._attempt(coming, work)
        finally:
            with self._changed:
                self._next = None
                if loaded:
                    self._current = coming
                    self._second = None if self._second is coming else self._second
                elif self._current is coming:
                    # The former one was closed for its sake. A new one of the same model loads with the next request.
                    self._current = self._make(former)
                    self._open[self._current] = former
            self._settle()

    def _attempt(self, runtime: FalconRuntime, work: Callable[[], None]) -> bool:
        """Whether the runtime could be loaded by `work`."""
        try:
            work()
        except FalconError as error:
            runtime.report(Status("failed", str(error)))
            if not self._closed:
                logger.warning("%s could not be prepared: %s", runtime.title, " ".join(str(error).split()))
            return False
        return True

    def _make_room(self, coming: FalconRuntime) -> None:
        """Returns when there is memory for the runtime of a switch, which is about to load; closes for it what must be.
        Errors: NotEnoughMemory."""
        with self._changed:
            if _takes(coming):
                return
            idle = [self._second] if self._second and not self._is_held(self._second) else []
            needed = coming.memory_bytes
            if needed <= self._room([]):
                return
            closed = idle
            if needed > self._room(idle):
                closed = self._others(coming)
                self._check_fits(coming, closed)
                self._current = coming
                coming.report(Status("loading", "Waiting for running answers to end"))
            self._second = None if idle else self._second
        self._settle()
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._open.keys() & closed)
            self._check_open()

    def _settle(self) -> None:
        """After any change: closes what is no longer used, and starts or stops the second one's idle timer."""
        with self._changed:
            idle = self._second is not None and not self._is_held(self._second)
            if not idle or self._closed:
                self._stop_idling()
            elif not self._idle:
                timer = threading.Timer(IDLE_S, lambda: self._drop_second(timer))
                timer.daemon, self._idle = True, timer
                timer.start()
            parts = [self._current, self._second, self._next]
            over = [runtime for runtime in list(self._open) if runtime not in parts and not self._leases[runtime]]
        for runtime in over:
            runtime.close()  # Not under the lock: it waits until the engine has given its memory back.
        with self._changed:
            for runtime in over:
                self._open.pop(runtime, None)
                self._leases.pop(runtime, None)
            self._changed.notify_all()

    def _drop_second(self, timer: threading.Timer) -> None:
        with self._changed:
            if self._idle is not timer:
                return  # It was leased meanwhile.
            self._idle = None
            if self._second and not self._is_held(self._second):
                self._second = None
        self._settle()

    def _stop_idling(self) -> None:
        if self._idle:
            self._idle.cancel()
            self._idle = None


def _takes(runtime: FalconRuntime) -> int:
    """Bytes of memory that it has taken or may yet take, about; 0 if it is not loaded."""
    return runtime.memory_bytes if runtime.status.state in ("loading", "ready") else 0
