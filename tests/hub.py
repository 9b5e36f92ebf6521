"""A stand-in for the Hugging Face hub on loopback: the part of its protocol that downloads use.

Like the hub it knows a repository by its commits, keeps large files elsewhere and sends clients there by a redirect, on
another origin, which must not see their tokens. And it can fail the way networks do.
"""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes | memoryview]
"""What is in a commit; a large file may be a view of one that is mapped."""


@dataclass
class Request:
    path: str
    range: str | None
    token: str | None
    sent: int = 0
    """Bytes of the body that went out."""


@dataclass
class StandInHub:
    endpoint: str = ""
    storage: str = ""
    """Where large files are."""
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    """Of each repository, the newest last."""
    siblings: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    """Of each commit, what the hub tells about its files."""
    card: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    """Without it nobody gets a file."""
    requests: list[Request] = field(default_factory=list)
    drops: Counter[str] = field(default_factory=Counter)
    """How many times the connection still drops in the middle of a file of this name."""
    resets: bool = False
    """Whether it drops like a network that fails, instead of like a server that hangs up."""
    pause_s: float = 0
    """Waited before every 16 KB that it sends."""
    gives_files: threading.Event = field(default_factory=threading.Event)
    """While it is not set, who asks for a file waits."""
    forged: set[str] = field(default_factory=set)
    """Files whose content is not the one that was published."""

    def publish(self, repository: str, files: Files) -> str:
        """Adds a commit and returns its name."""
        content = "".join(f"{name} {hashlib.sha1(data).hexdigest()}" for name, data in sorted(files.items()))
        commit = hashlib.sha1((repository + content).encode()).hexdigest()
        self.commits.setdefault(repository, {})[commit] = files
        self.siblings[commit] = [_sibling(name, data) for name, data in files.items()]
        return commit

    def sent(self, name: str) -> list[Request]:
        """The requests that brought any of a file, other than a look at its header."""
        return [r for r in self.requests if r.path.endswith("/" + name) and r.sent and r.range != "bytes=0-100000"]


@contextmanager
def serve() -> Iterator[StandInHub]:
    hub = StandInHub()
    hub.gives_files.set()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, hub)) for _ in range(2)]
    hub.endpoint, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.gives_files.set()
        for server in servers:
            server.shutdown()
            server.server_close()


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".gguf"))


def _sibling(name: str, data: bytes | memoryview) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data))
    blob.update(data)
    file: dict[str, object] = {"rfilename": name, "size": len(data), "blobId": blob.hexdigest()}
    if is_large(name):
        file["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
    return file


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: StandInHub, *arguments: object):
        self.hub = hub
        super().__init__(*arguments)  # type: ignore[arg-type]

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers["Authorization"]
        request = Request(path, self.headers["Range"], token and token.removeprefix("Bearer "))
        self.hub.requests.append(request)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._info(*match.groups())
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(request, *match.groups())
        return self._answer(404)

    def _find(self, repository: str, revision: str) -> tuple[str, Files] | None:
        commits = self.hub.commits.get(repository)
        if commits is None:
            self._answer(401, {"X-Error-Code": "RepoNotFound"})  # As the hub does, not to tell what is private.
            return None
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            self._answer(404, {"X-Error-Code": "RevisionNotFound"})
            return None
        return commit, commits[commit]

    def _info(self, repository: str, revision: str | None) -> None:
        if not (found := self._find(repository, revision or "main")):
            return
        commit, _ = found
        siblings = self.hub.siblings[commit]
        info = {"id": repository, "sha": commit, "siblings": siblings, "cardData": self.hub.card, "tags": []}
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(info).encode())

    def _file(self, request: Request, repository: str, revision: str, name: str) -> None:
        in_storage = self.connection.getsockname()[1] == urlsplit(self.hub.storage).port
        if not in_storage and self.hub.token not in (None, request.token):
            return self._answer(401 if request.token is None else 403, {"X-Error-Code": "GatedRepo"})
        if not (found := self._find(repository, revision)):
            return None
        self.hub.gives_files.wait()
        commit, files = found
        if name not in files:
            return self._answer(404, {"X-Error-Code": "EntryNotFound"})
        if is_large(name) and not in_storage:
            return self._answer(302, {"Location": self.hub.storage + self.path, "X-Repo-Commit": commit})
        data = files[name]
        if name in self.hub.forged:
            data = bytes(data[:-1]) + bytes([data[-1] ^ 1])
        status, headers = 200, {"X-Repo-Commit": commit}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", request.range or ""):
            first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
            status, headers["Content-Range"] = 206, f"bytes {first}-{last}/{len(data)}"
            data = data[first : last + 1]
        drop = self.hub.drops[name] > 0 and request.range != "bytes=0-100000"
        self.hub.drops[name] -= drop
        request.sent = len(data) // 2 if drop else len(data)
        return self._answer(status, headers, data, request.sent)

    def _answer(
        self, status: int, headers: dict[str, str] | None = None, body: bytes | memoryview = b"", sent: int = -1
    ) -> None:
        """`sent` bytes of the body go out, all if negative."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        going = body if sent < 0 else body[:sent]
        with suppress(OSError):  # Whoever asked may have gone.
            for first in range(0, len(going), 1 << 14):
                time.sleep(self.hub.pause_s)
                self.wfile.write(going[first : first + (1 << 14)])
        if len(going) < len(body):
            self.close_connection = True
            if self.hub.resets:
                time.sleep(0.2)  # A reset discards what the other side has not read.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
