"""The HTTP API by Ray Serve: several engines behind one address, on one machine or many.

A `Door` takes all requests and leads each to a `Replica`, which has the API and an engine of its own. The queue, the
choice of a replica, health, restarts and updates are Ray's.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn

import ray
from ray import serve
from ray.exceptions import RayActorError
from ray.serve import Application
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter
from ray.serve.handle import DeploymentHandle
from ray.serve.request_router import PendingRequest, ReplicaID, RunningReplica
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import CannotListen, EngineDied
from .models.library import default_models_dir, find_model
from .runtime import FalconRuntime
from .server.app import endpoints
from .server.clients import Clients
from .server.conversation import conversation_id
from .server.failures import RETRY_S, Failure, NotReady, failure
from .server.fleets import fleet_of
from .server.formats import event
from .server.gate import Gate
from .server.metrics import Metrics, together
from .server.service import Service
from .server.settings import BadSetting, ReplicaSettings
from .status import Report
from .system.leaving import SIGNALS
from .system.machine import default_threads

REQUEST = "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers"
"""What of a request's scope (ASGI) the API needs; the rest belongs to the process that has the connection. Without
`root_path`, nothing is found but at the root of the address, which is where the gate knows the API."""
LOOKING_S = 10
"""Seconds within which replicas tell how they are."""
MOST_CONNECTIONS = 100_000
"""The door turns nobody away: how many may wait behind it, the settings say."""
LOOKERS = 4
"""Requests that a replica takes beside those that slots are for: such as ask how it is."""
SEEKING_S = 0.05
"""The longest time after which Ray looks again for a free slot: else half a second, in which slots would be idle."""
PATIENT = 10
"""Has Ray wait for the length of a queue as long as it ever does, a second: a busy machine takes more than its first
tenth."""
TOGETHER_S = 0.03
"""Words that a replica writes within this time go to the door together: what Ray does for each message costs more than
a word of a small model."""
LONGEST_S = 24 * 3600
"""Seconds that an answer may take where there is no limit."""
NICENESS = "0"
"""As of any server. With Ray's 15, whatever else a machine does comes first: while it was busy, Ray's proxy did not
start within the time that Ray gives it."""
LOGS = "/tmp/ray/session_latest/logs/serve"
OBJECT_STORE_BYTES = 80_000_000
"""About the least that Ray takes: nothing large goes through its object store."""


class Replica:
    """The API, without what keeps clients within their limits, and an engine."""

    def __init__(self, settings: ReplicaSettings) -> None:
        """Returns when the model can answer. Errors: RuntimeError."""
        self._fleet = fleet_of(settings)
        self._app = endpoints(Service(self._fleet, settings, Metrics(self._fleet)))
        self._fleet.load()
        self.check_health()

    def check_health(self) -> None:
        """Ray asks every ten seconds, and replaces a replica that raises. An engine that ended is started again by its
        runtime; here it counts what that could not."""
        status = self._fleet.current.status
        if status.state == "failed":
            raise RuntimeError(status.message)

    async def answer(self, request: Scope, body: bytes) -> AsyncIterator[list[Message]]:
        """The messages (ASGI) with which the API answers, those that come at about the same time together. Whoever goes
        away cancels them."""
        answered: asyncio.Queue[Message | None] = asyncio.Queue()
        asked: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if not asked:
                await asyncio.Event().wait()
            return asked.pop()

        working = asyncio.create_task(self._app(request, receive, answered.put))
        working.add_done_callback(lambda _: answered.put_nowait(None))
        try:
            while message := await answered.get():
                messages = [message]
                while not answered.empty() and (message := answered.get_nowait()):
                    messages.append(message)
                yield messages
                if not message:
                    break
                await asyncio.sleep(TOGETHER_S)
        finally:
            working.cancel()

    async def look(self, request: Scope) -> tuple[str, int, bytes]:
        """The replica's name, and the status and the body with which it answers a GET."""
        start, *rest = [message async for messages in self.answer(request, b"") for message in messages]
        name = serve.get_replica_context().replica_id.unique_id
        return name, start["status"], b"".join(message.get("body", b"") for message in rest)


class SlotRouter(ConsistentHashRouter):
    """Ray's router by session: the same one goes to the same replica, and elsewhere while all slots there are taken."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        unknown = [replica for replica in candidate_replicas if self._queue_length(replica.replica_id) is None]
        await self._probe_queue_lens(unknown, PATIENT)
        ranks = await super().choose_replicas(candidate_replicas, pending_request)
        return [rank for rank in ranks if any(map(self._has_slot, rank))]

    def _has_slot(self, replica: RunningReplica) -> bool:
        length = self._queue_length(replica.replica_id)
        return length is not None and length < replica.max_ongoing_requests - LOOKERS

    def _queue_length(self, replica: ReplicaID) -> int | None:
        """None when it has not changed for ten seconds, or was not asked for since something ended there."""
        return self.replica_queue_len_cache.get(replica)

    def on_send_request(self, replica_id: ReplicaID) -> None:
        # Where Ray has forgotten the length, it counts on from nothing: a look at a full replica would make it idle.
        if self._queue_length(replica_id) is not None:
            super().on_send_request(replica_id)

    def decrement_queue_len_cache(self, replica_id: ReplicaID) -> None:
        # Whether the length has what ended in it, Ray does not know.
        self.replica_queue_len_cache.invalidate_key(replica_id)


@serve.ingress()
class Door:
    """In front of the replicas: who may ask, how much at a time, and which replica answers."""

    def __init__(self, replicas: DeploymentHandle[Any], settings: ReplicaSettings) -> None:
        self._settings = settings
        self._replicas = replicas.options(method_name="answer", stream=True)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return Gate(Router(default=self._lead), self._settings, Clients(self._settings))

    async def _lead(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Errors: Failure; whatever ended the replica in the middle of an answer that is no stream."""
        request = {key: scope[key] for key in REQUEST if key in scope}
        if scope["path"] == "/metrics" or scope["path"].startswith("/health"):
            return await (await self._look(request))(scope, receive, send)
        if not (self._settings.wait_for_model or self._replicas.running_replicas_populated()):
            raise _failure(TimeoutError())
        body = await Request(scope, receive).body()
        start: Message | None = None
        try:
            answer: Any = self._replicas.options(session_id=conversation_id(body)).remote(request, body)
            async for messages in answer:
                start = start or messages[0]
                for message in messages:
                    await send(message)
        except Exception as error:
            if not start:
                raise _failure(error) from None
            if (b"content-type", b"text/event-stream; charset=utf-8") not in start["headers"]:
                raise
            told = event({"error": _failure(error).error})
            await send({"type": "http.response.body", "body": told.encode(), "more_body": False})

    async def _look(self, request: Scope) -> Response:
        """How all replicas are: what each has counted, or what the one says that is best off."""
        try:
            asked = self._replicas.broadcast("look", request)
            answers = await asked.results_async(timeout_s=LOOKING_S, return_exceptions=True)
        except (DeploymentUnavailableError, TimeoutError) as error:
            raise _failure(error) from None
        told = {name: (status, body) for name, status, body in (item for item in answers if isinstance(item, tuple))}
        if not told:
            raise _failure(TimeoutError())
        if request["path"] == "/metrics":
            whole = together({name: body.decode() for name, (_, body) in told.items()})
            return Response(whole, media_type="text/plain; version=0.0.4")
        status, body = min(told.values())
        return Response(body, status, media_type="application/json")


def _failure(error: Exception) -> Failure:
    """What an error of Ray's is for the client."""
    match error:
        case BackPressureError():
            words = "The queue is full. Try again in a few seconds."
            return Failure(503, words, "server_error", "overloaded", retry_s=RETRY_S)
        case DeploymentUnavailableError() | TimeoutError():
            return failure(NotReady("No replica can answer now. Try again in a few seconds."))
        case RayActorError():
            words = "The replica that answered has ended. Ask again: others can answer."
            return Failure(503, words, "server_error", "replica_ended", retry_s=RETRY_S)
    return failure(error)


def app(args: dict[str, Any]) -> Application:
    """For `serve run falcon_runtime.serve_ray:app NAME=VALUE…`, and for `import_path` and `args` in Ray's files: the
    settings are those of `falcon serve`, but for address and port, which are Ray's. Errors: BadSetting, UnknownModel.
    """
    if unknown := args.keys() - ReplicaSettings.model_fields:
        raise BadSetting(f"There is no setting {', '.join(sorted(unknown))}.")
    return application(ReplicaSettings.read(args))


def application(settings: ReplicaSettings) -> Application:
    """The replicas, and the door in front of them. Without a number of threads, each replica has a machine to itself.
    Errors: UnknownModel."""
    model = find_model(settings.model, default_models_dir())
    facts = model.manifest() or model.entry
    alone: dict[str, Any] = {"max_replicas_per_node": 1}
    beside: dict[str, Any] = {"ray_actor_options": {"num_cpus": settings.threads}}
    # An update waits for the answers that are under way.
    ending: dict[str, Any] = {"graceful_shutdown_timeout_s": settings.answer_seconds or LONGEST_S}
    replicas = serve.deployment(
        num_replicas=settings.replicas or 1,
        max_ongoing_requests=(facts.slots if facts else 1) + LOOKERS,
        max_queued_requests=settings.queue_length,
        request_router_config={"request_router_class": SlotRouter, "max_backoff_s": SEEKING_S},
        max_constructor_retry_count=3,
        **(beside if settings.threads else alone),
        **ending,
    )(Replica)
    door = serve.deployment(ray_actor_options={"num_cpus": 0}, max_ongoing_requests=MOST_CONNECTIONS, **ending)(Door)
    return door.bind(replicas.bind(settings), settings)


def serve_replicas(settings: ReplicaSettings, on_status: Report, tell: Callable[[str], None]) -> None:
    """Answers until the program is told to end, by a cluster of its own on this machine. `tell` gets the address when
    all replicas can answer. Errors: CannotListen, UnknownModel, those of `FalconRuntime.load`; EngineDied.
    """
    replicas = settings.replicas or 1
    settings = settings.model_copy(update={"threads": settings.threads or max(1, default_threads() // replicas)})
    _check_free(settings.host, settings.port)
    _leave_at_signals()
    # What takes long is done once, and what cannot be is said, before there are several.
    with FalconRuntime(settings.model, backend=settings.backend, threads=settings.threads) as runtime:
        runtime.load(on_status=on_status)
    try:
        _start_ray(replicas * (settings.threads or 1))
        _leave_at_signals()  # Again: Ray has put a handler of its own there.
        serve.start(proxy_location="HeadOnly", http_options={"host": settings.host, "port": settings.port})
        serve.run(application(settings))
        tell(settings.url)
        signal.pause()
    except RuntimeError as error:
        raise EngineDied(f"The replicas cannot be started: {error} Ray's logs are in {LOGS}.") from None
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # Impatience should not interrupt this.
        ray.shutdown()


def _start_ray(cpus: int) -> None:
    """A cluster of this machine alone, which tells nobody of itself."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", NICENESS)
    ray.init(
        address="local",
        num_cpus=cpus,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _leave_at_signals() -> None:
    """Has signals end this process with exit code 0, but not before Ray has ended all of its own: those that Ray's main
    processes have started would outlive them by a minute."""

    def leave(*_: object) -> NoReturn:
        raise SystemExit(0)

    for number in SIGNALS:
        signal.signal(number, leave)


def _check_free(host: str, port: int) -> None:
    """Errors: CannotListen. Ray's proxies would share the port with whoever has it."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        raise CannotListen(host, port) from None
