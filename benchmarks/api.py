"""What HTTP, a stream, a constraint and a batch cost beside the bare engine, in one run and in turns.

    python -m benchmarks.api [MODEL] [--rounds 5] [--tokens 128] [--requests 64]

The bare engine is a `FalconRuntime` in this process, the server a `falcon serve` beside it, and the batch a `falcon
batch` without its file of arguments. Each has an engine of its own, of which one works at a time. Answers are greedy,
of a fixed length, and such that nothing is drafted but what a schema forces.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.cli.bench import CONTEXTS, Meter
from falcon_runtime.server.batch import run_batch
from falcon_runtime.server.settings import ModelSettings
from falcon_runtime.system.instruction_sets import chosen
from falcon_runtime.system.machine import cpu_name, default_threads
from tests.served_app import free_port

PATH = "/v1/completions"
LONG = 5000
"""Characters that an answer under a constraint must have at least: more than it can."""
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "no constraint": {},
    "a regular expression": {"regex": f"[a-zA-Z ,.]{{{LONG},}}"},
    "a JSON schema": {
        "json_schema": {
            "type": "object",
            "properties": {"text": {"type": "string", "minLength": LONG}},
            "required": ["text"],
        }
    },
}


class Contest:
    """All sides, each of which answers the same prompts."""

    def __init__(self, runtime: FalconRuntime, url: str, tokens: int, requests: int) -> None:
        assert runtime.manifest
        meter = Meter(runtime, runtime.manifest)
        self._runtime, self._url, self._requests = runtime, url, requests
        self._words, self._answer = meter.prompt(CONTEXTS[0]), meter.answer
        self._tokens, self._asked = tokens, 0
        self.slots = runtime.slots or 1
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=None)

    def prompts(self, number: int) -> list[str]:
        """Of equal length, and none of which has been asked before."""
        self._asked += number
        return [f"{self._asked + i:06} {self._words}" for i in range(number)]

    def params(self, tokens: int, **more: Any) -> SamplingParams:
        return SamplingParams(**self._answer.model_dump(exclude_unset=True) | {"max_new_tokens": tokens} | more)

    def body(self, prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
        params = self._answer.model_dump(exclude_unset=True)
        del params["max_new_tokens"]
        bias = {str(token): value for token, value in params["logit_bias"].items()}
        return params | {"logit_bias": bias, "prompt": prompt, "max_tokens": tokens} | more

    def bare(self, prompt: str, tokens: int) -> None:
        for _ in self._runtime.generate(prompt, self.params(tokens)):
            pass

    def http(self, prompt: str, tokens: int) -> None:
        self._client.post(PATH, json=self.body(prompt, tokens)).raise_for_status()

    def stream(self, prompt: str, tokens: int) -> None:
        with self._client.stream("POST", PATH, json=self.body(prompt, tokens, stream=True)) as response:
            for _ in response.iter_lines():
                pass

    def constrained(self, constraint: dict[str, Any]) -> float:
        """Milliseconds of decode for each token."""
        (prompt,) = self.prompts(1)
        *_, last = self._runtime.generate(prompt, self.params(self._tokens, constraint=constraint or None))
        assert last.stats.generated_tokens == self._tokens
        return 1000 / (last.stats.decode_tokens_per_second or 1)

    def bare_together(self, prompts: list[str]) -> float:
        """Tokens per second of all slots."""
        with ThreadPoolExecutor(self.at_once) as pool:
            began = time.perf_counter()
            list(pool.map(lambda prompt: self.bare(prompt, self._tokens), prompts))
            return len(prompts) * self._tokens / (time.perf_counter() - began)

    def http_together(self, prompts: list[str]) -> float:
        async def ask() -> float:
            limits, left = httpx.Limits(max_connections=self.at_once), iter(prompts)
            async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=None, limits=limits) as client:

                async def work() -> None:
                    for prompt in left:
                        (await client.post(PATH, json=self.body(prompt, self._tokens))).raise_for_status()

                began = time.perf_counter()
                await asyncio.gather(*(work() for _ in range(self.at_once)))
                return len(prompts) * self._tokens / (time.perf_counter() - began)

        return asyncio.run(ask())

    def batch(self, prompts: list[str]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
            lines = [
                {"custom_id": prompt, "method": "POST", "url": PATH, "body": self.body(prompt, self._tokens)}
                for prompt in prompts
            ]
            source.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            settings = ModelSettings.read({"model": self._runtime.name, "draft": "none"})
            outcome = run_batch(settings, source, target, lambda status: None)
        assert not outcome.failed
        assert outcome.generated_tokens == len(prompts) * self._tokens
        return outcome.generated_tokens / outcome.seconds

    @property
    def at_once(self) -> int:
        """Requests on their way: a batch's number."""
        return self.slots + self.slots // 2 + 1

    def one_at_a_time(self, rounds: int) -> Iterable[tuple[str, list[float]]]:
        """What there is to say of single requests, each with a figure for bare, HTTP and stream."""
        ways = (self.bare, self.http, self.stream)
        short = medians(rounds, [partial(self._seconds, way, 1) for way in ways])
        long = medians(rounds, [partial(self._seconds, way, self._tokens) for way in ways])
        yield "a request of one token, ms", [1000 * seconds for seconds in short]
        each = [1000 * (b - a) / (self._tokens - 1) for a, b in zip(short, long, strict=True)]
        yield f"each of {self._tokens - 1} more tokens, ms", each

    def all_slots(self, rounds: int) -> list[float]:
        """Tokens per second of bare, HTTP and batch."""
        ways = (self.bare_together, self.http_together, self.batch)
        return medians(rounds, [partial(self._together, way) for way in ways])

    def _together(self, way: Callable[[list[str]], float]) -> float:
        return way(self.prompts(self._requests))

    def _seconds(self, way: Callable[[str, int], None], tokens: int) -> float:
        (prompt,) = self.prompts(1)
        began = time.perf_counter()
        way(prompt, tokens)
        return time.perf_counter() - began


def medians(rounds: int, sides: Sequence[Callable[[], float]]) -> list[float]:
    """Of each side, which take turns, so that what else the machine does falls on all of them. The first turn warms."""
    taken = [[side() for side in sides] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def row(name: str, figures: list[float], digits: int) -> str:
    ratios = "".join(f" {figure:.{digits}f} ({figure / figures[0]:.2f}) |" for figure in figures[1:])
    return f"| {name} | {figures[0]:.{digits}f} |{ratios}"


def report(contest: Contest, rounds: int) -> None:
    print("| one at a time | bare engine | HTTP | a stream |\n|---|---|---|---|")
    for name, figures in contest.one_at_a_time(rounds):
        print(row(name, figures, 2), flush=True)
    print(f"\n| | {' | '.join(CONSTRAINTS)} |\n|---|---|---|---|")
    sides = [partial(contest.constrained, constraint) for constraint in CONSTRAINTS.values()]
    print(row("each token, ms", medians(rounds, sides), 2), flush=True)
    print(f"\n| {contest.at_once} at a time, {contest.slots} slots | bare engine | HTTP | `batch` |\n|---|---|---|---|")
    print(row("tokens per second", contest.all_slots(rounds), 0))
    print(f"\n{cpu_name()}, {chosen().title}, {default_threads()} threads; in brackets, of the bare engine's figure")


@contextmanager
def server(model: str) -> Iterator[str]:
    """The address of a `falcon serve` that refuses nothing."""
    flags = ["--model", model, "--draft", "none", "--requests-per-minute", "1000000", "--requests-at-once", "1000"]
    command = [sys.executable, "-m", "falcon_runtime", "serve", *flags, "--port", str(free_port()), "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())["url"].removesuffix("/v1")
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--requests", type=int, default=64)
    options = parser.parse_args()
    with FalconRuntime(options.model, draft="none") as runtime:
        runtime.load()
        with server(runtime.name) as url:
            report(Contest(runtime, url, options.tokens, options.requests), options.rounds)


if __name__ == "__main__":
    main()
