"""The two files of a batch: lines of requests, and lines of answers. Their form is that of OpenAI's Batch API."""

import fcntl
import hashlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError

from ..errors import InvalidRequest

BEGINNING = b'{"id": "batch_req_'
"""Of every line of answers."""


class Request(BaseModel):
    """One line of requests."""

    custom_id: str = Field(min_length=1)
    method: Literal["POST"]
    url: Literal["/v1/chat/completions", "/v1/completions", "/v1/responses"]
    body: dict[str, Any]

    @property
    def model(self) -> str | None:
        """The name of the model that is asked; None for the one that the batch runs with."""
        model = self.body.get("model")
        return model if isinstance(model, str) and model else None


@dataclass(frozen=True)
class Problem:
    """Why a line is no request that could be answered."""

    line: int
    custom_id: str | None
    code: str
    message: str

    def error(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "param": None, "line": self.line}


Entry = Request | Problem


def read_requests(path: Path) -> dict[str, Entry]:
    """The lines of a file by their ids, which are made of what the lines say: the same request, the same id.

    Errors: InvalidRequest where it cannot be read, or where no line of it is a request.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from error
    entries: dict[str, Entry] = {}
    taken: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            entry = _entry(number, line, taken)
            entries[_id(entry, line)] = entry
    if not any(isinstance(entry, Request) for entry in entries.values()):
        first = next((f": {entry.message}" for entry in entries.values() if isinstance(entry, Problem)), "")
        raise InvalidRequest(
            f"{path} has no requests{first or '.'} A line of it looks like "
            '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": […]}}'
        )
    return entries


def _entry(number: int, line: bytes, taken: dict[str, int]) -> Entry:
    """What a line says. `taken` are the lines of the custom_ids so far."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        return Problem(number, None, "invalid_json_line", f"Line {number} is not JSON: {reason}.")
    custom_id = given.get("custom_id") if isinstance(given, dict) else None
    custom_id = custom_id if isinstance(custom_id, str) else None
    try:
        request = Request.model_validate(given)
    except ValidationError as error:
        return Problem(number, custom_id, "invalid_request", f"Line {number}: {_sentence(error)}.")
    if before := taken.get(request.custom_id):
        sentence = f"Line {number}: its custom_id {request.custom_id!r:.200} is that of line {before}. Give it its own."
        return Problem(number, custom_id, "duplicate_custom_id", sentence)
    taken[request.custom_id] = number
    if request.body.get("stream"):
        sentence = f"Line {number}: answers of a batch cannot be streamed. Leave `stream` out of its body."
        return Problem(number, custom_id, "invalid_request", sentence)
    return request


def _sentence(error: ValidationError) -> str:
    places = [".".join(map(str, item["loc"])) or "the line" for item in error.errors()]
    items = zip(places, error.errors(), strict=True)
    return "; ".join(f"{place}: {item['msg'][:1].lower()}{item['msg'][1:]}" for place, item in items)


def _id(entry: Entry, line: bytes) -> str:
    if isinstance(entry, Problem):
        said = f"{entry.line}:".encode() + line
    else:
        said = json.dumps(entry.model_dump(), sort_keys=True).encode()
    return f"batch_req_{hashlib.sha256(said).hexdigest()[:32]}"


class Output:
    """The file of answers, whole lines of it at any time: what an interrupted run has left is gone on with. One process
    has it at a time. Errors: InvalidRequest where it cannot be written, or has something else in it."""

    def __init__(self, path: Path, source: Path, known: Collection[str]) -> None:
        """For the requests of the file `source` that have the ids `known`."""
        self.path, self.done, self.failed = path, set[str](), 0
        try:
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  Open as long as this is.
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be written: {error.strerror}.") from error
        try:
            self._take(source, known)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, answer: dict[str, Any]) -> None:
        """Adds a line. Errors: InvalidRequest."""
        try:
            line = json.dumps(answer, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # There is half a surrogate pair in it, which only an escape can spell.
            line = json.dumps(answer).encode()
        line += b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise InvalidRequest(
                f"{self.path} cannot be written: {error.strerror}. What it holds is kept; run the same command "
                "again to continue."
            ) from error
        self._count(answer)

    def _take(self, source: Path, known: Collection[str]) -> None:
        if not os.path.isfile(self.path):
            raise InvalidRequest(
                f"{self.path} is not a regular file. Answers must go to one, so that an interrupted batch can go on."
            )
        if os.path.samefile(self.path, source):
            raise InvalidRequest("The answers cannot go where the requests are. Name another file for them.")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidRequest(f"{self.path} is being written by another batch. Wait for it, or end it.") from None
        self._file.seek(0)
        *lines, torn = self._file.read().split(b"\n")
        for number, line in enumerate(lines, 1):
            self._keep(number, line, source, known)
        if torn and not (torn.startswith(BEGINNING) or BEGINNING.startswith(torn)):
            raise self._foreign(len(lines) + 1)
        self._file.truncate(sum(len(line) + 1 for line in lines))

    def _keep(self, number: int, line: bytes, source: Path, known: Collection[str]) -> None:
        try:
            answer = json.loads(line)
            if not line.startswith(BEGINNING):
                raise self._foreign(number)
            if answer["id"] not in known:
                raise InvalidRequest(
                    f"Line {number} of {self.path} answers a request that is not in {source}: it was made from another "
                    "file, or that one has changed. Name another file for the answers."
                )
            self._count(answer)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._foreign(number) from None

    def _foreign(self, number: int) -> InvalidRequest:
        return InvalidRequest(
            f"{self.path} is not a file of a batch's answers: its line {number} is not one. Name another file."
        )

    def _count(self, answer: dict[str, Any]) -> None:
        self.done.add(answer["id"])
        self.failed += answer["error"] is not None or answer["response"]["status_code"] != 200
