"""What a visitor of the page sees and asks, over HTTP."""

import html
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

API = "/gradio_api"
PROXY = {"X-Forwarded-For": "192.0.2.1"}
"""As the proxy of a Space adds it: the visitor's address."""


@dataclass(frozen=True)
class Header:
    """What the page says of the model."""

    model: str
    status: str
    notice: str
    """What answers and what is being done, in sentences."""

    def __str__(self) -> str:
        return " | ".join(filter(None, [self.model, self.status, self.notice]))

    @property
    def news(self) -> str:
        """Without how far it is."""
        return re.sub(r"\d+ ?(%|s\b|min\b)", "", str(self))


class Visitor:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=600, headers=PROXY, trust_env=False)
        self._events: list[tuple[int, list[int]]] = []

    def sees_page(self) -> bool:
        try:
            return self._http.get("/", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, message: str, tokens: int) -> Iterator[str]:
        """The answer so far, again and again."""
        call = {"data": [message, None, None, tokens]}
        event = self._http.post(f"{API}/call/chat", json=call).raise_for_status().json()["event_id"]
        kind = ""
        for name, value in self._lines(f"{API}/call/chat/{event}"):
            if name == "event":
                kind = value
            elif kind == "error":
                raise RuntimeError(f"The app could not answer: {value}")
            elif kind == "generating" and (text := json.loads(value)[0]):
                yield text

    def header(self) -> Header:
        """What the page says now, which an open page asks the server every few seconds."""
        function, places = self._header_event()
        session = uuid.uuid4().hex
        asked = {"data": [], "fn_index": function, "session_hash": session}
        with self._http.stream("GET", f"{API}/heartbeat/{session}"):
            self._http.post(f"{API}/queue/join", json=asked).raise_for_status()
            for name, value in self._lines(f"{API}/queue/data?session_hash={session}"):
                if name == "data" and (message := json.loads(value))["msg"] == "process_completed":
                    return read_header("".join(message["output"]["data"][place] for place in places))
        raise RuntimeError("The page does not say which model answers.")

    def _header_event(self) -> tuple[int, list[int]]:
        """The number of the event that brings the header, and where in its answer the parts of the header are."""
        if not self._events:
            self._events = list(header_events(self._http.get("/config").json()))
        return self._events[0]

    def _lines(self, path: str) -> Iterator[tuple[str, str]]:
        """Names and values of a stream of server-sent events."""
        with self._http.stream("GET", path) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                name, found, value = line.partition(": ")
                if found:
                    yield name, value


def header_events(config: dict[str, Any]) -> Iterator[tuple[int, list[int]]]:
    """The events that bring the header, which is the bar and the sentence below it, and ask for nothing: their numbers,
    and where in their answers these are."""
    parts = [each["id"] for each in config["components"] if each["props"].get("elem_id") in ("header", "sentence")]
    for event in config["dependencies"]:
        if set(parts) <= set(event["outputs"]) and not event["inputs"]:
            yield event["id"], [event["outputs"].index(part) for part in parts]


def read_header(page: str) -> Header:
    parts = (r'class="name"[^>]*>(.*?)<', r'role="status">(.*?)<', r'class="said [^>]*><p>(.*?)</p>')
    found = (re.search(part, page, re.DOTALL) for part in parts)
    return Header(*(html.unescape(match[1]).strip() if match else "" for match in found))


def wait_until(done: Callable[[], bool], seconds: float, pause: float, otherwise: Callable[[], str]) -> None:
    """Errors: RuntimeError with what `otherwise` says, when it takes longer than that."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise())
        time.sleep(pause)
