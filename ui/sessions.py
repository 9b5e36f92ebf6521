"""What Gradio keeps of its sessions, and when that ends. Nothing else in this package knows the inside of them.

Gradio keeps each session for ever, with a copy of the page in it (a third of a megabyte) for a route that is closed
here, and goes on with an answer that nobody reads.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.routes import App
from gradio.state_holder import SessionState, StateHolder

LEFT, LEFT_S = 500, 900
"""Of how many pages whose connection was lost the state is kept, and for how long: they may come back, as phones do."""
PAGES = 10_000
"""Names of pages that are remembered. One that comes back later goes on with an empty state."""


class LightState(SessionState):
    """A session without the copy of the page."""

    def __init__(self, blocks: gr.Blocks) -> None:
        self.blocks_config = copy(blocks.default_config)
        self.config_values: dict[int, Any] = {}
        self.state_data: dict[int, Any] = {}
        self._state_ttl: dict[int, Any] = {}
        self.is_closed = False
        self.STATE_TTL_WHEN_CLOSED = 3600

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values.clear()

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class LightStates(StateHolder):
    """Of such sessions."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = LightState(self.blocks)
        return super().__getitem__(session_id)


class Sessions:
    """Of one running app."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._blocks = app.get_blocks()
        app.state_holder = LightStates()  # type: ignore[no-untyped-call]
        app.state_holder.set_blocks(self._blocks)
        self._pages: OrderedDict[str, None] = OrderedDict()
        """Sessions of pages that are open or were, the latest at the end."""
        self._open: Counter[str] = Counter()
        """Connections of the pages that are open."""
        self._left: dict[str, float] = {}
        """When something was last heard of each page that is not open any more."""
        self._readers: dict[str, int] = {}
        self._read: dict[str, float] = {}
        """When somebody last read what a session was told, or asked it."""

    def function(self, index: Any, name: str | None = None) -> BlockFunction | None:
        """The event of a number, or the public one of a name; None where there is none."""
        functions = self._blocks.fns
        if isinstance(index, int):
            return functions.get(index)
        if name is None:
            return None
        public = (function for function in functions.values() if function.api_visibility == "public")
        return next((function for function in public if function.api_name == name), None)

    def is_page(self, session: Any) -> bool:
        """Whether a page has, or had, this session open. One that had is kept for a while longer."""
        if not isinstance(session, str) or session not in self._pages:
            return False
        if not self._open[session]:
            self._leave(session)
        return True

    @contextmanager
    def page(self, session: str) -> Iterator[None]:
        """While a page is open."""
        self._pages[session] = None
        self._pages.move_to_end(session)
        if len(self._pages) > PAGES:
            self._pages.popitem(last=False)
        self._open[session] += 1
        self._left.pop(session, None)
        try:
            yield
        finally:
            self._open[session] -= 1
            if not self._open[session]:
                del self._open[session]
                self._leave(session)

    @contextmanager
    def reader(self, session: str) -> Iterator[None]:
        """While somebody reads what a session is told."""
        self._readers[session] = self._readers.get(session, 0) + 1
        try:
            yield
        finally:
            self._read[session] = time.monotonic()
            self._readers[session] -= 1
            if not self._readers[session]:
                del self._readers[session]

    def session_of(self, event: str) -> str | None:
        """Whose event it is; None where there is none such, or its end was read."""
        waiting = self._queue.pending_event_ids_session.items()
        return next((session for session, events in waiting if event in events), None)

    def asked(self, event: str) -> None:
        """Notes that an event has just been asked for."""
        if session := self.session_of(event):
            self._read.setdefault(session, time.monotonic())

    def is_running(self, event: str) -> bool:
        """Whether it runs or waits."""
        return event in self._queue.event_ids_to_events

    async def sweep(self, unread_s: float) -> None:
        """Ends what nobody has read for so long, and forgets sessions that are over."""
        now = time.monotonic()
        for session, read in list(self._read.items()):
            if session in self._readers:
                continue
            if any(map(self.is_running, self._queue.pending_event_ids_session.get(session, ()))):
                if now - read > unread_s:
                    await self._queue.clean_events(session_hash=session)
            elif now - read > unread_s or not self._queue.pending_event_ids_session.get(session):
                self._forget_messages(session)
                if session not in self._open and session not in self._left:
                    self._forget(session)
        for session, left in list(self._left.items()):
            if now - left > LEFT_S or len(self._left) > LEFT:
                del self._left[session]
                self._forget(session)

    @property
    def _queue(self) -> Any:
        return self._blocks._queue

    def _leave(self, session: str) -> None:
        self._left.pop(session, None)
        self._left[session] = time.monotonic()  # The latest is the last.

    def _forget_messages(self, session: str) -> None:
        self._read.pop(session, None)
        for kept in (self._queue.pending_messages_per_session, self._queue.pending_event_ids_session):
            kept.pop(session, None)

    def _forget(self, session: str) -> None:
        """All of a session."""
        self._forget_messages(session)
        self._app.state_holder.session_data.pop(session, None)
        self._app.state_holder.time_last_used.pop(session, None)
