"""`falcon batch`: the requests of a file, answered by the endpoints of the server in this process, without a socket."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from ..errors import UnknownModel
from ..fleet import Fleet
from ..status import Count, Report
from . import formats
from .app import endpoints
from .batch_files import Output, Problem, Request, read_requests
from .fleets import fleet_of
from .metrics import Metrics
from .service import ENDLESS, Service
from .settings import ModelSettings, ServerSettings

JSON = {"Content-Type": "application/json"}
ATTEMPTS = 3
"""So often a request is asked that ends with 503: its engine died, say, and is back."""


@dataclass
class Outcome:
    """What became of a batch. Tokens and seconds are of this run."""

    output: str
    requests: int
    """In all, what is no request included."""
    kept: int
    """Of them, those that were answered by earlier runs."""
    failed: int = 0
    """Of all, those whose answer is an error."""
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        kept = f", {self.kept:,} of them before" if self.kept else ""
        failed = f", {self.failed:,} with an error" if self.failed else ""
        rate = self.generated_tokens / self.seconds if self.seconds else 0
        return (
            f"{self.requests:,} requests are answered{kept}{failed}: {self.output}\n"
            f"{self.generated_tokens:,} tokens in {self.seconds:.1f} s, {rate:.0f}/s"
        )

    def count(self, usage: Mapping[str, int]) -> None:
        self.prompt_tokens += usage.get("prompt_tokens", usage.get("input_tokens", 0))
        self.generated_tokens += usage.get("completion_tokens", usage.get("output_tokens", 0))


def run_batch(settings: ModelSettings, source: Path, target: Path, report: Report) -> Outcome:
    """Answers what the file `target` does not answer yet. Each answer is in it, flushed, as soon as there is one, so
    that after whatever ends this the next run goes on.

    Errors: InvalidRequest about the files, before anything is loaded; those of `FalconRuntime.load`. What is wrong
    with one request is its answer.
    """
    entries = read_requests(source)
    with Output(target, source, entries) as output:
        outcome = Outcome(str(target), len(entries), len(output.done))
        left = {name: entry for name, entry in entries.items() if name not in output.done}
        requests = {name: entry for name, entry in left.items() if isinstance(entry, Request)}
        for name, entry in left.items():
            if isinstance(entry, Problem):
                output.write(_answer(name, entry.custom_id, None, entry.error()))
        if requests:
            with fleet_of(settings) as fleet:
                _Run(fleet, output, outcome, report).all(requests)
        outcome.failed = output.failed
    return outcome


class _Run:
    """The requests of a batch on their way."""

    def __init__(self, fleet: Fleet, output: Output, outcome: Outcome, report: Report) -> None:
        # Nobody else waits: what is in the way of strangers on a server has no use here.
        settings = ServerSettings.model_construct(queue_length=ENDLESS, wait_for_model=True)
        self._service = Service(fleet, settings, Metrics(fleet))
        self._app = endpoints(self._service)
        self._output, self._outcome, self._report = output, outcome, report

    def all(self, requests: Mapping[str, Request]) -> None:
        """One model after the other, as a second one beside it is all that a fleet has."""
        models = {name: self._model(request) for name, request in requests.items()}
        for model in dict.fromkeys(models.values()):
            asked = {name: request for name, request in requests.items() if models[name] == model}
            with self._service.fleet.lease(model) as runtime:
                runtime.load(on_status=self._report)
                count = Count("Requests answered", self._outcome.requests, self._report, len(self._output.done))
                began = time.perf_counter()
                asyncio.run(self._answer(asked, runtime.slots or 1, count))
                self._outcome.seconds += time.perf_counter() - began

    def _model(self, request: Request) -> str | None:
        """The name to lease its model by. One that there is not is for the endpoint to refuse."""
        try:
            return self._service.find(request.model)
        except UnknownModel:
            return None

    async def _answer(self, requests: Mapping[str, Request], slots: int, count: Count) -> None:
        """Some more at a time than there are slots, so that none of these waits for the next request to arrive."""
        waiting = iter(requests.items())
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://batch", timeout=None) as client:

            async def work() -> None:
                for name, request in waiting:
                    self._output.write(await self._ask(client, name, request))
                    count.add()

            await asyncio.gather(*(work() for _ in range(slots + slots // 2 + 1)))

    async def _ask(self, client: httpx.AsyncClient, name: str, request: Request) -> dict[str, Any]:
        """The line that answers a request."""
        for attempt in range(1, ATTEMPTS + 1):
            # Not `json=`, which takes no half surrogate pairs and no NaN: what those are, the endpoints say.
            response = await client.post(request.url, content=json.dumps(request.body), headers=JSON)
            if response.status_code != 503 or attempt == ATTEMPTS:
                break
            await asyncio.sleep(int(response.headers.get("Retry-After", 1)))
        body = response.json()
        self._outcome.count(body.get("usage") or {})
        told = {"status_code": response.status_code, "request_id": formats.identifier("req"), "body": body}
        return _answer(name, request.custom_id, told, None)


def _answer(
    name: str, custom_id: str | None, response: dict[str, Any] | None, error: dict[str, Any] | None
) -> dict[str, Any]:
    return {"id": name, "custom_id": custom_id, "response": response, "error": error}
