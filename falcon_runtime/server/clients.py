"""Who asks, and how much one client may ask for at a time. The page and the API count together."""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from starlette.types import Scope

from ..errors import FalconError


class Allowed(Protocol):
    """What one client may take."""

    @property
    def requests_at_once(self) -> int: ...
    @property
    def requests_per_minute(self) -> int: ...
    @property
    def trusted_proxies(self) -> int: ...


class TooManyRequests(FalconError):
    """A client asks for more than it may have; `retry_s` are the seconds after which it may ask again."""

    def __init__(self, sentence: str, retry_s: int) -> None:
        super().__init__(sentence)
        self.retry_s = retry_s


class Client:
    """What one address has asked for."""

    def __init__(self) -> None:
        self.events: set[str] = set()
        """What it has asked on the page, and what runs or waits."""
        self.calls = 0
        """Its requests to the API that run or wait."""
        self.minute: deque[float] = deque()
        """When it asked, in the last minute."""
        self.streams = 0

    def admit(self, allowed: Allowed) -> None:
        """Counts one more request. Errors: TooManyRequests."""
        now = time.monotonic()
        while self.minute and now - self.minute[0] > 60:
            self.minute.popleft()
        if (running := len(self.events) + self.calls) >= allowed.requests_at_once:
            raise TooManyRequests(
                f"You have {running} requests running or waiting; at most {allowed.requests_at_once} are allowed. "
                "Read their answers, or stop some, and ask again.",
                5,
            )
        if len(self.minute) >= allowed.requests_per_minute:
            wait = 60 - (now - self.minute[0])
            raise TooManyRequests(
                f"You have sent {len(self.minute)} requests in a minute, which is the limit. Try again in "
                f"{wait:.0f} s.",
                round(wait),
            )
        self.minute.append(now)

    @contextmanager
    def calling(self, allowed: Allowed) -> Iterator[None]:
        """Counts a request to the API for as long as it takes. Errors: TooManyRequests."""
        self.admit(allowed)
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

    @property
    def idle(self) -> bool:
        recent = self.minute and time.monotonic() - self.minute[-1] < 60
        return not (self.events or self.calls or self.streams or recent)


class Clients:
    """The clients of one server, by their addresses."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
        self._clients: defaultdict[str, Client] = defaultdict(Client)

    def of(self, scope: Scope) -> Client:
        """The client whose request it is."""
        self._forget()
        return self._clients[self._address(scope)]

    def all(self) -> list[Client]:
        return list(self._clients.values())

    def _forget(self) -> None:
        for address in [address for address, client in self._clients.items() if client.idle]:
            del self._clients[address]

    def _address(self, scope: Scope) -> str:
        """Of the addresses that proxies have added, the one that the first trusted one saw. What stands before it, a
        client may have written itself."""
        hops = self._allowed.trusted_proxies
        added = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        addresses = b",".join(added).decode("latin-1").split(",")
        if hops and added:
            return addresses[-min(hops, len(addresses))].strip()
        return str((scope.get("client") or ("",))[0])
