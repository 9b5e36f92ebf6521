"""The steps of one request, on the parent's side."""

from collections.abc import Callable
from queue import SimpleQueue

from ..errors import FalconError, InvalidRequest
from ..sampling import SamplingParams
from .step import Step


class StepStream:
    """The steps of a request that continues `tokens`, or scores them where `params` is None; the last one has a finish
    reason. Errors: EngineDied; InvalidRequest where its constraint cannot be followed.

    `close` may be called from any thread and does not wait: the engine drops the request before its next step.
    """

    def __init__(self, tokens: tuple[int, ...], params: SamplingParams | None):
        self.tokens, self.params = tokens, params
        self.begun = False
        """Whether the engine has worked on it."""
        self.lost = 0
        """How many processes ended before they had begun it."""
        self.closed = False
        self.cancel: Callable[[], None] = lambda: None
        """Tells the process that has it to drop it."""
        self._inbox: SimpleQueue[Step | FalconError] = SimpleQueue()
        self._over = False

    def __iter__(self) -> "StepStream":
        return self

    def __next__(self) -> Step:
        if self._over:
            raise StopIteration
        item = self._inbox.get()
        if isinstance(item, FalconError):
            self._over = True
            raise item
        self._over = item.finish_reason is not None
        if item.problem:
            raise InvalidRequest(item.problem)
        return item

    def close(self) -> None:
        if not self._over:
            self.closed = True
            self.cancel()

    def add(self, step: Step) -> None:
        self.begun = self.begun or step.stats.prefilled_tokens > step.stats.cached_tokens
        self._inbox.put(step)

    def fail(self, error: FalconError) -> None:
        self._inbox.put(error)
