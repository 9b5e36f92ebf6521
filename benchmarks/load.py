"""A crowd on a public page: 50 clients for five minutes, on loopback, through every door.

    python -m benchmarks.load [--clients 50] [--seconds 300] [--kill-every 60] [--plot benchmarks/load.svg]

Of the requests 20 % are cancelled and 10 % of the clients vanish in the middle of an answer; now and then the engine is
killed, or stopped so that it hangs. Every request must end with its answer, or with a sentence that says why not. The
crowd runs on the same processors as the server.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from falcon_runtime.models.library import default_models_dir
from falcon_runtime.system.machine import cpu_name, default_threads
from tests.served_app import ServedApp, serve

API = "/gradio_api"
CANCELLED, VANISHED = 0.2, 0.1
PATIENCE_S = 180
QUESTIONS = ("What is the capital of France?", "Name three birds.", "What is 2 + 2?", "Why is the sky blue?")
SETTINGS = {"FALCON_PROXIES": "1", "FALCON_REQUESTS_AT_ONCE": "2", "FALCON_REQUESTS_PER_MINUTE": "60"}


@dataclass
class Record:
    """What became of all requests, and of the server."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By door and outcome."""
    sentences: Counter[str] = field(default_factory=Counter)
    first_text_s: list[float] = field(default_factory=list)
    end_s: list[float] = field(default_factory=list)
    samples: list[tuple[float, float, float, int, int]] = field(default_factory=list)
    """Second, RSS of the app and of the engine in MB, descriptors and threads of the app."""
    kills: list[tuple[float, str]] = field(default_factory=list)


class Visitor:
    """One of the crowd: asks again and again, each time through one of the doors."""

    def __init__(self, number: int, url: str, record: Record) -> None:
        self._random = random.Random(number)
        self._record = record
        self._url = url
        self._headers = {"X-Forwarded-For": f"198.51.100.{number}"}

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            door = self._random.choice(["generate", "chat", "instruct", "client", "page", "wrong"])
            began = time.monotonic()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    outcome = await getattr(self, f"_{door}", self._call)(door, began)
            except (TimeoutError, httpx.HTTPError, OSError, ValueError, KeyError) as error:
                outcome = f"no reply: {type(error).__name__}"
            self._record.outcomes[door, outcome] += 1
            await asyncio.sleep(self._random.uniform(0, 1))

    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=PATIENCE_S, trust_env=False)

    async def _call(self, door: str, began: float) -> str:
        """An endpoint over plain HTTP."""
        tokens = self._random.choice([8, 32, 64])
        before = {"generate": 0, "instruct": 1, "chat": 2}[door]
        data = [self._random.choice(QUESTIONS), *[None] * before, tokens]
        async with self._http() as http:
            answer = await http.post(f"{API}/call/{door}", json={"data": data})
            if answer.status_code != 200:
                return self._refused(answer)
            event = answer.json()["event_id"]
            async with http.stream("GET", f"{API}/call/{door}/{event}") as stream:
                kinds = (line.removeprefix("event: ") async for line in stream.aiter_lines() if line)
                return await self._follow(plain(kinds), began, None)

    async def _client(self, door: str, began: float) -> str:
        """As Gradio's own clients do it: a session with a heartbeat, and one stream of messages."""
        session = f"{self._random.getrandbits(48):x}"
        async with self._http() as http, http.stream("GET", f"{API}/heartbeat/{session}"):
            functions = (await http.get("/config")).json()["dependencies"]
            index = next(function["id"] for function in functions if function["api_name"] == "chat")
            body = {"data": [self._random.choice(QUESTIONS), [], None, 64], "fn_index": index, "session_hash": session}
            answer = await http.post(f"{API}/queue/join", json=body)
            if answer.status_code != 200:
                return self._refused(answer)
            cancel = {"session_hash": session, "fn_index": index, "event_id": answer.json()["event_id"]}
            async with http.stream("GET", f"{API}/queue/data?session_hash={session}") as stream:
                lines = (line.removeprefix("data: ") async for line in stream.aiter_lines() if line)
                return await self._follow(messages(lines), began, cancel)

    async def _page(self, door: str, began: float) -> str:
        async with self._http() as http:
            pages = [await http.get(path) for path in ("/", "/theme.css", "/manifest.json")]
            return "answered" if all(page.status_code == 200 for page in pages) else "no reply: page"

    async def _wrong(self, door: str, began: float) -> str:
        body = self._random.choice([b"{", b'{"data": [5]}', b'{"data": []}', b'{"data": ["Hi", -1]}', b"x" * 100_000])
        async with self._http() as http:
            answer = await http.post(f"{API}/call/chat", content=body)
            if answer.status_code != 200:
                return self._refused(answer)
            told = (await http.get(f"{API}/call/chat/{answer.json()['event_id']}")).text
            return self._sentence(json.loads(told.rpartition("data: ")[2]))

    async def _follow(self, events: AsyncIterator[tuple[str, Any]], began: float, cancel: dict[str, Any] | None) -> str:
        """Reads an answer to its end, or leaves."""
        leaves = self._random.random() < CANCELLED + VANISHED
        async for kind, data in events:
            if kind == "text":
                self._record.first_text_s.append(time.monotonic() - began)
                if leaves:
                    if cancel is None or self._random.random() < VANISHED / (CANCELLED + VANISHED):
                        return "disconnected"
                    async with self._http() as http:
                        await http.post(f"{API}/cancel", json=cancel)
                    return "cancelled"
            elif kind == "error":
                return self._sentence(data)
            elif kind == "end":
                self._record.end_s.append(time.monotonic() - began)
                return "answered"
        return "no reply: the stream ended"

    def _refused(self, answer: httpx.Response) -> str:
        return self._sentence(answer.json())

    def _sentence(self, told: dict[str, Any]) -> str:
        sentence = told.get("error") or told.get("detail")
        if not isinstance(sentence, str):
            return "no reply: an error without a sentence"
        self._record.sentences[sentence[:60]] += 1
        return "refused with a reason"


async def plain(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Any]]:
    """What happens in the stream of a call: `text` once there is some, then `end` or `error`."""
    kind, begun = "", False
    async for line in lines:
        if not line.startswith("data: "):
            kind = line
            continue
        data = json.loads(line.removeprefix("data: "))
        if kind == "error":
            yield "error", data or {}
        elif data and data[0] and not begun:
            begun = True
            yield "text", data
        if kind == "complete":
            yield "end", data


async def messages(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Any]]:
    """The same of the stream of a session."""
    begun = False
    async for line in lines:
        message = json.loads(line)
        output = message.get("output") or {}
        if message["msg"] in ("process_completed", "unexpected_error") and not message.get("success"):
            yield "error", output if output.get("error") else {"error": message.get("message")}
        elif message["msg"] == "process_generating" and any(output.get("data", [])) and not begun:
            begun = True
            yield "text", output
        elif message["msg"] == "process_completed":
            yield "end", output


async def watch(app: ServedApp, record: Record, began: float, until: float) -> None:
    while time.monotonic() < until:
        engine = sum(worker.memory_info().rss for worker in engines(app))
        process = app.process
        figures = process.memory_info().rss / 1e6, engine / 1e6, process.num_fds(), process.num_threads()
        record.samples.append((time.monotonic() - began, *figures))
        await asyncio.sleep(1)


async def disturb(app: ServedApp, record: Record, began: float, until: float, every: float) -> None:
    """Kills the engine, and every third time only stops it."""
    for number in itertools.count(1):
        await asyncio.sleep(every)
        if time.monotonic() > until - every / 2:
            return
        for engine in engines(app):
            record.kills.append((time.monotonic() - began, "stopped" if number % 3 == 0 else "killed"))
            engine.suspend() if number % 3 == 0 else engine.kill()


def engines(app: ServedApp) -> list[psutil.Process]:
    try:
        return app.workers()
    except psutil.NoSuchProcess:  # It ended just now.
        return []


async def crowd(app: ServedApp, clients: int, seconds: float, every: float) -> Record:
    record, began = Record(), time.monotonic()
    until = began + seconds
    visitors = [Visitor(number, app.url, record).run(until) for number in range(1, clients + 1)]
    watcher = asyncio.create_task(watch(app, record, began, until + PATIENCE_S))
    await asyncio.gather(*visitors, disturb(app, record, began, until, every))
    await asyncio.sleep(5)
    watcher.cancel()
    return record


def report(record: Record) -> None:
    outcomes = sorted({outcome for _, outcome in record.outcomes})
    print(f"| door | {' | '.join(outcomes)} |\n|---|{'---|' * len(outcomes)}")
    for door in sorted({door for door, _ in record.outcomes}):
        print(f"| {door} | {' | '.join(str(record.outcomes[door, outcome]) for outcome in outcomes)} |")
    totals = Counter[str]()
    for (_, outcome), count in record.outcomes.items():
        totals[outcome] += count
    print(f"| all {totals.total()} | {' | '.join(str(totals[outcome]) for outcome in outcomes)} |\n")
    first, rss = sorted(record.first_text_s), [sample[1] for sample in record.samples]
    print(f"First text after {first[len(first) // 2]:.1f} s (median), {first[-1]:.1f} s (longest); ", end="")
    print(f"answered after {max(record.end_s):.1f} s at the longest.")
    print(f"The app: {rss[0]:.0f} MB at first, {max(rss):.0f} at most, {rss[-1]:.0f} at the end; ", end="")
    print(f"the engine {max(sample[2] for sample in record.samples):.0f} MB at most; ", end="")
    for place, name in ((3, "descriptors"), (4, "threads")):
        values = [int(sample[place]) for sample in record.samples]
        print(f"{name} {values[0]}, {max(values)}, {values[-1]}", end="; " if place == 3 else ".\n")
    print(f"The engine was {', '.join(f'{how} after {when:.0f} s' for when, how in record.kills)}.\n")
    for sentence, count in record.sentences.most_common():
        print(f"- {count} × {sentence}…")
    print(f"\n{cpu_name()}, {default_threads()} threads")


def plot(record: Record, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, (memory, counts) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 5))
    seconds = [sample[0] for sample in record.samples]
    for place, label in ((1, "the app"), (2, "the engine")):
        memory.plot(seconds, [sample[place] for sample in record.samples], label=label)
    for place, label in ((3, "descriptors of the app"), (4, "threads of the app")):
        counts.plot(seconds, [sample[place] for sample in record.samples], label=label)
    for axes, label in ((memory, "RSS, MB"), (counts, "")):
        for when, how in record.kills:
            axes.axvline(when, color="0.7", linestyle="--" if how == "killed" else ":")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    counts.set_xlabel("seconds; dashed: the engine was killed, dotted: stopped")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kill-every", type=float, default=60)
    parser.add_argument("--models-dir", type=Path, default=default_models_dir())
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve(options.models_dir, Path(scratch, "log"), afresh=True, **SETTINGS) as app,
    ):
        app.worker()
        while "is ready" not in app.log.read_text():
            time.sleep(0.5)
        record = asyncio.run(crowd(app, options.clients, options.seconds, options.kill_every))
    report(record)
    if options.plot:
        plot(record, options.plot)


if __name__ == "__main__":
    main()
