"""The page as a public one: what is closed, how much one client may take, and that nothing of a visitor stays."""

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from .served_app import ServedApp, is_idle, serve, wait_until

API = "/gradio_api"
SECRET = "the heron at Lough Derg"
LONG = {"data": ["Once upon a time", 2000, 0]}
AT_ONCE, PER_MINUTE, UNREAD_S, MEGABYTES = 4, 40, 2, 1
REQUESTS, MAY_GROW, ROUNDS = 200, 500_000, 8
"""Requests of a round, after one of which memory has grown by less than that."""


@pytest.fixture(scope="module")
def public(endless_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """An app with small limits, behind one proxy: the address of a client is what the proxy adds."""
    limits = {
        "FALCON_REQUESTS_AT_ONCE": str(AT_ONCE),
        "FALCON_REQUESTS_PER_MINUTE": str(PER_MINUTE),
        "FALCON_UNREAD_SECONDS": str(UNREAD_S),
        "FALCON_UPLOAD_MEGABYTES": str(MEGABYTES),
        "FALCON_PROXIES": "1",
    }
    folder = tmp_path_factory.mktemp("public")
    with serve(endless_models_dir, folder / "log", "--model", "endless", TMPDIR=str(folder), **limits) as served:
        yield served


class Visitor:
    """A client with an address of its own."""

    count = 0

    def __init__(self, app: ServedApp) -> None:
        Visitor.count += 1
        self.address = f"198.51.100.{Visitor.count}"
        self.http = httpx.Client(
            base_url=app.url, headers={"X-Forwarded-For": self.address}, trust_env=False, timeout=120
        )

    def ask(self, body: Any, endpoint: str = "generate") -> httpx.Response:
        return self.http.post(f"{API}/call/{endpoint}", json=body)

    def read(self, event: str, endpoint: str = "generate") -> list[tuple[str, Any]]:
        """All that is told of a request: kinds and data."""
        text = self.http.get(f"{API}/call/{endpoint}/{event}").text
        events = [part.split("\ndata: ") for part in text.split("\n\n") if part]
        return [(kind.removeprefix("event: "), json.loads(data)) for kind, data in events]

    def answer(self, body: Any, endpoint: str = "generate") -> tuple[str, Any]:
        return self.read(self.ask(body, endpoint).raise_for_status().json()["event_id"], endpoint)[-1]


@pytest.fixture
def visitor(public: ServedApp) -> Iterator[Visitor]:
    visitor = Visitor(public)
    with visitor.http:
        yield visitor


@pytest.mark.parametrize(
    "path",
    [
        f"{API}/deep_link?session_hash=abc",
        f"{API}/deep_link/?session_hash=abc",
        "/monitoring",
        "/monitoring/summary",
        "/monitoring/abc",
        f"{API}/queue/status",
        f"{API}/file=README.md",
        f"{API}/file=/etc/passwd",
        f"{API}/file/README.md",
        f"{API}/proxy=https://example.com",
        f"{API}/runs",
        f"{API}/vibe-code",
        f"{API}/stream/abc/0/1/playlist.m3u8",
        f"{API}/custom_component/a/b/c/d",
        f"{API}/dev/reload",
        "/login",
        "/assets/../../../etc/passwd",
        "/.env",
    ],
)
def test_what_the_page_does_not_need_is_closed(visitor: Visitor, path: str) -> None:
    assert visitor.http.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["component_server", "stream/abc", "api/generate", "process_recording", "vibe-edit", "login"]
)
def test_so_are_other_calls(visitor: Visitor, path: str) -> None:
    assert visitor.http.post(f"{API}/{path}", json={"data": []}).status_code == 404
    assert visitor.http.request("DELETE", f"{API}/{path}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("call/generate", b"{", 400, "not JSON"),
        ("call/generate", b"", 400, "not JSON"),
        ("call/generate", b"\xff\xfe", 400, "not JSON"),
        ("call/generate", b"[" * 100_000, 400, "not JSON"),
        ("call/generate", b"[1]", 400, "must be"),
        ("call/generate", b'{"data": "Hi"}', 400, "must be"),
        ("call/generate", b'{"data": null}', 400, "must be"),
        ("call/nothing", b'{"data": []}', 404, "The endpoints are /generate, /chat and /instruct"),
        ("queue/join", b'{"data": [], "fn_index": 999, "session_hash": "a"}', 404, "no such endpoint"),
        ("queue/join", b'{"data": [], "fn_index": "0", "session_hash": "a"}', 404, "no such endpoint"),
        ("queue/join", b'{"data": [], "session_hash": "a"}', 404, "no such endpoint"),
        ("run/predict", b'{"data": [], "fn_index": 0, "session_hash": "a"}', 403, "no page is open"),
        ("run/predict", b'{"data": [], "fn_index": 0, "session_hash": ["a"]}', 403, "no page is open"),
        ("run/predict", b'{"data": [], "fn_index": 0}', 403, "no page is open"),
        ("call/chat", b'{"data": ["Hi"], "session_hash": 5}', 422, "session_hash"),
        ("queue/join", b'{"data": ["Hi"], "fn_index": CHAT, "session_hash": {}}', 422, "session_hash"),
        ("queue/join", b'{"data": ["Hi"], "fn_index": CHAT}', 400, "Session hash not found"),
        ("cancel", b"{}", 422, "cannot be understood"),
        ("cancel", b"x", 422, "cannot be understood"),
        ("run/generate", b'{"data": ["Hi"]}', 404, "There is nothing here"),
    ],
)
def test_a_wrong_call_gets_a_sentence(visitor: Visitor, path: str, body: bytes, status: int, words: str) -> None:
    functions = visitor.http.get("/config").json()["dependencies"]
    chat = next(function["id"] for function in functions if function["api_name"] == "chat")
    body = body.replace(b"CHAT", str(chat).encode())
    for headers in ({"Content-Type": "application/json"}, {}):
        answer = visitor.http.post(f"{API}/{path}", content=body, headers=headers)
        assert answer.status_code == status
        assert words in answer.json()["detail"]


def test_a_call_may_name_its_values(visitor: Visitor) -> None:
    """The form that the page's own description of the API shows."""
    asked = visitor.http.post(f"{API}/call/v2/generate", json={"prompt": "Hi", "max_new_tokens": 2})
    told = visitor.http.get(f"{API}/call/v2/generate/{asked.json()['event_id']}").text
    assert "event: complete" in told


def test_pages_elsewhere_may_call_it(visitor: Visitor) -> None:
    asks = {"Host": "demo.example", "Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    answer = visitor.http.options(f"{API}/call/chat", headers=asks)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] in ("*", "https://example.com")


@pytest.mark.parametrize("path", ["/", "/config", f"{API}/info"])
def test_the_page_is_sent_compressed(visitor: Visitor, path: str) -> None:
    """To whoever takes it so, and it is the same."""
    plain = visitor.http.get(path, headers={"Accept-Encoding": "identity"})
    small = visitor.http.get(path, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert int(small.headers["content-length"]) < len(plain.content) / 5
    assert len(small.content) == len(plain.content)
    assert small.headers.get("content-security-policy") == plain.headers.get("content-security-policy")


def test_a_browser_that_has_been_here_asks_for_little(visitor: Visitor) -> None:
    script = re.search(r'src="\./(assets/[^"]+\.js)"', visitor.http.get("/").text)
    assert script
    assert "immutable" in visitor.http.get(f"/{script[1]}").headers["cache-control"]
    for path in ("/assets/nothing.js", "/"):
        assert "cache-control" not in visitor.http.get(path).headers


def test_what_was_read_is_gone(visitor: Visitor) -> None:
    event = visitor.ask({"data": ["Hi", 2, 0]}).json()["event_id"]
    assert visitor.read(event)[-1][0] == "complete"
    again = visitor.http.get(f"{API}/call/generate/{event}")
    assert again.status_code == 404
    assert "has been read" in again.json()["error"]


def test_no_component_is_told_of_progress(visitor: Visitor) -> None:
    """Else browsers would copy all that each of them has, at every update of an answer."""
    functions = visitor.http.get("/config").json()["dependencies"]
    own = [function for function in functions if function["api_visibility"] != "public"]
    telling = [function["id"] for function in own if function["outputs"] and function["show_progress_on"] != []]
    assert len(own) > 50
    assert telling == []


def test_events_of_the_page_with_wrong_values(public: ServedApp, visitor: Visitor) -> None:
    """Its session is open, as that of a page; what its events take is wrong in every way. Nothing of it is logged."""
    functions = visitor.http.get("/config").json()["dependencies"]
    with visitor.http.stream("GET", f"{API}/heartbeat/mine") as page:
        next(page.iter_text())
        for values in ([], [SECRET] * 40, [{"path": SECRET}] * 40, [None] * 40, [[SECRET]] * 40):
            for function in functions:
                if function["queue"]:
                    continue
                body = {"data": values, "fn_index": function["id"], "session_hash": "mine"}
                answer = visitor.http.post(f"{API}/run/predict", json=body)
                assert answer.status_code == 200 or answer.json()["error"], function
    assert SECRET not in public.log.read_text()


def test_a_request_that_is_too_large_is_not_stored(public: ServedApp, visitor: Visitor) -> None:
    large = b"x" * (MEGABYTES * 1_000_000 + 1)

    def pieces() -> Iterator[bytes]:
        yield from [large[: len(large) // 2]] * 3

    for content in (large, pieces()):
        answer = visitor.http.post(f"{API}/call/generate", content=content)
        assert answer.status_code == 413
        assert "1 MB" in answer.json()["error"]
    assert visitor.http.post(f"{API}/upload", files={"files": ("a.txt", large)}).status_code == 413
    assert uploaded(public) == 0


def uploaded(app: ServedApp) -> int:
    """Bytes of files that the app keeps."""
    (folder,) = app.log.parent.glob("falcon-uploads-*")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_one_client_cannot_take_the_queue(visitor: Visitor, public: ServedApp) -> None:
    """And another one is served meanwhile; what nobody reads ends."""
    asked = [visitor.ask(LONG) for _ in range(AT_ONCE + 3)]
    assert [answer.status_code for answer in asked] == [200] * AT_ONCE + [429] * 3
    assert "requests running or waiting; at most" in asked[-1].json()["error"]
    assert int(asked[-1].headers["Retry-After"]) > 0
    other = Visitor(public)
    with other.http:
        assert other.answer({"data": ["Hi", 2, 0]})[0] == "complete"
    wait_until(lambda: visitor.ask({"data": ["Hi", 2, 0]}).status_code == 200)


def test_requests_in_a_minute(visitor: Visitor) -> None:
    codes = [visitor.answer({"data": [5]})[0] for _ in range(PER_MINUTE)]
    assert set(codes) == {"error"}, "what is refused counts as well"
    refused = visitor.ask({"data": ["Hi", 2, 0]})
    assert refused.status_code == 429
    assert "in a minute" in refused.json()["error"]


def test_an_address_that_a_client_made_up_is_not_taken(visitor: Visitor) -> None:
    asked = []
    for number in range(AT_ONCE + 1):
        forged = f"203.0.113.{number}, {visitor.address}"
        asked.append(visitor.http.post(f"{API}/call/generate", json=LONG, headers={"X-Forwarded-For": forged}))
    assert asked[-1].status_code == 429


def test_who_does_not_read_what_comes_is_not_waited_for(public: ServedApp, visitor: Visitor) -> None:
    """The connection stays open, and its buffers are full."""
    event = visitor.ask({"data": ["Once upon a time", 2000, 0, *[None] * 10, 20]}).json()["event_id"]
    host, port = public.url.removeprefix("http://").split(":")
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        reader.connect((host, int(port)))
        request = f"GET {API}/call/generate/{event} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {visitor.address}\r\n\r\n"
        reader.sendall(request.encode())
        wait_until(lambda: is_idle(public.worker()))


def test_limits_of_a_request(endless_models_dir: Path, tmp_path: Path) -> None:
    limits = {"PROMPT_CHARACTERS": "1000", "PROMPT_TOKENS": "100", "NEW_TOKENS": "50", "ANSWER_SECONDS": "1"}
    variables = {f"FALCON_{name}": value for name, value in limits.items()}
    with serve(endless_models_dir, tmp_path / "log", "--model", "endless", **variables) as app:
        visitor = Visitor(app)
        with visitor.http:
            for values, words in (
                (["x " * 501], "1,002 characters; at most 1,000"),
                (["falcon " * 120], "tokens; at most 100"),
                (["Hi", 51], "at most 50 tokens here, not 51"),
            ):
                kind, data = visitor.answer({"data": values})
                assert kind == "error"
                assert words in data["error"]
            for endpoint in ("generate", "chat", "instruct"):
                assert visitor.answer({"data": ["Count.", None, None, None]}, endpoint)[0] == "complete"


def test_memory_stays_flat(endless_models_dir: Path, tmp_path: Path) -> None:
    """Over hundreds of requests, of which half are refused. What fills up at first does not go on growing."""
    many = {"FALCON_REQUESTS_PER_MINUTE": "100000"}
    with serve(endless_models_dir, tmp_path / "log", "--model", "endless", afresh=True, **many) as app:
        visitor = Visitor(app)
        with visitor.http, ThreadPoolExecutor(4) as pool:

            def kind(number: int) -> str:
                return visitor.answer({"data": ["Hi" if number % 2 else 5, 1, 0]})[0]

            def after_a_round() -> int:
                assert Counter(pool.map(kind, range(REQUESTS))) == dict.fromkeys(["complete", "error"], REQUESTS // 2)
                time.sleep(3)  # For what is cleared away after each second.
                return int(app.process.memory_info().rss)

            sizes = [after_a_round() for _ in range(2)]
            while sizes[-1] - sizes[-2] > MAY_GROW:
                assert len(sizes) < ROUNDS, sizes
                sizes.append(after_a_round())
