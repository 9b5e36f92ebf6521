"""Several engines behind one address, by Ray Serve: two of them on this machine."""

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from prometheus_client.parser import text_string_to_metric_families

from falcon_runtime.serve_ray import Replica, app
from falcon_runtime.server.conversation import conversation_id
from falcon_runtime.server.settings import BadSetting, ReplicaSettings
from tests.served_app import engines_of, slowed, wait_for_end, wait_until

from .conftest import Api, serve

SLOTS = 8
QUEUE = 2
FLAGS = ("--model", "endless", "--replicas", "2", "--api-key", "secret", "--queue-length", str(QUEUE))
LIMITS = ("--requests-at-once", "25", "--requests-per-minute", "100000", "--upload-megabytes", "1")


@pytest.fixture(scope="module")
def cluster(endless_models_dir: Path) -> Iterator[Api]:
    with pytest.MonkeyPatch.context() as patch:
        # Ray forgets how much a replica has to do, which is asked for again: at once, where else ten seconds pass.
        patch.setenv("RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S", "0.1")
        with serve(endless_models_dir, *FLAGS, *LIMITS) as api:
            yield api


@pytest.fixture
def client(cluster: Api) -> OpenAI:
    wait_until(lambda: len(told(cluster, "model_ready")) == 2)
    wait_until(lambda: not any(told(cluster, "running_requests").values()))
    return cluster.client("secret")


def told(cluster: Api, name: str) -> dict[str, float]:
    """A metric of each replica."""
    families = text_string_to_metric_families(cluster.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {sample.labels["replica"]: sample.value for sample in samples if sample.name == f"falcon_{name}"}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def count(client: OpenAI, text: str, tokens: int = 2000) -> Any:
    """A stream that goes on by itself, at its first words. No draft foresees words of chance: it takes its time."""
    asked: Any = {"messages": [user(text)], "max_tokens": tokens, "temperature": 1.5}
    stream = client.chat.completions.create(model="endless", stream=True, **asked)
    while not next(iter(stream)).choices[0].delta.content:
        pass
    return stream


@contextmanager
def slowly(cluster: Api) -> Iterator[None]:
    """Both engines write slowly: on a fast processor the first answers would be over before the last have begun."""
    one, other = engines_of(cluster.process)
    with slowed(one), slowed(other):
        yield


def test_a_conversation_finds_its_cache(cluster: Api, client: OpenAI) -> None:
    """Several at a time, until both replicas have some of them."""
    before, told_so_far = told(cluster, "generated_tokens_total"), []
    while len(told_so_far) < 6 or before.items() & told(cluster, "generated_tokens_total").items():
        messages = [user(f"Story {len(told_so_far)}: " + f"{len(told_so_far)} is a number that I like. " * 10)]
        first = client.chat.completions.create(model="endless", messages=messages, max_tokens=4)
        told_so_far.append((first, [*messages, {"role": "assistant", "content": first.choices[0].message.content}]))
    assert len(before) == 2
    for first, messages in told_so_far:
        turn = client.chat.completions.create(model="endless", messages=[*messages, user("More.")], max_tokens=4)
        assert turn.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens


def test_words_come_one_by_one_and_nobody_writes_for_who_is_gone(cluster: Api, client: OpenAI) -> None:
    stream = count(client, "Count.")
    assert sum(told(cluster, "running_requests").values()) == 1
    stream.close()
    wait_until(lambda: sum(told(cluster, "running_requests").values()) == 0)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).chat.completions.create(model="endless", messages=[user("Count.")])
    wait_until(lambda: sum(told(cluster, "running_requests").values()) == 0)


def test_it_tells_how_it_is(cluster: Api, client: OpenAI) -> None:
    assert cluster.get("/health").json()["status"] == "ok"
    assert cluster.get("/health/ready").json()["ready"] is True
    assert client.models.list().data[0].id == "endless"
    assert cluster.get("/openapi.json").status_code == 200


def test_a_key_and_limits(cluster: Api, client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        cluster.client("wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="none", prompt="A")
    with pytest.raises(openai.APIStatusError) as too_much:
        client.completions.create(model="endless", prompt="x" * 1_100_000)
    assert too_much.value.status_code == 413


def test_too_many(cluster: Api, client: OpenAI) -> None:
    """All slots are taken wherever their conversations would have gone, some wait, and the others are told."""
    with ExitStack() as stack:
        stack.enter_context(slowly(cluster))
        numbers = itertools.count()
        while list(told(cluster, "running_requests").values()) != [SLOTS, SLOTS]:
            assert not any(told(cluster, "waiting_requests").values())
            stack.callback(count(client, f"Count from {next(numbers)}.").close)
        with ThreadPoolExecutor(25) as pool:
            asked = [pool.submit(ask, client, f"Say {number}.") for number in range(9)]
            wait_until(lambda: sum(answer.done() for answer in asked) == len(asked) - QUEUE)
            stack.close()
        refused = [answer.result() for answer in asked if isinstance(answer.result(), openai.APIStatusError)]
    assert Counter(error.code for error in refused) == {"overloaded": len(asked) - QUEUE}
    assert all(error.status_code == 503 and error.response.headers["Retry-After"] for error in refused)


def test_a_replica_that_is_killed_is_replaced(cluster: Api, client: OpenAI) -> None:
    """Whom it was answering is told, and the others are answered."""
    with slowly(cluster):
        streams = [count(client, "Count.", 600)]
        while not all(told(cluster, "running_requests").values()):
            streams.append(count(client, f"Count from {len(streams)}.", 600))
        running = told(cluster, "running_requests")
        started = cluster.process.children(recursive=True)
        next(process for process in started if "default:Replica" in process.name()).kill()
    with ThreadPoolExecutor(16) as pool:
        ends = pool.map(end, streams)
        answers = list(pool.map(lambda number: ask(client, f"Say {number}."), range(4)))
    told_so = Counter(ends)
    assert told_so.keys() == {"replica_ended", "length"}
    assert told_so["replica_ended"] in running.values()
    refused = [answer for answer in answers if isinstance(answer, openai.APIStatusError)]
    assert len(refused) < len(answers)
    assert {error.code for error in refused} <= {"replica_ended", "overloaded"}
    wait_until(lambda: len(told(cluster, "model_ready")) == 2)
    assert len(told(cluster, "model_ready").keys() & running.keys()) == 1


def end(stream: Any) -> str:
    """How it ends, which may be in OpenAI's words for a broken stream."""
    try:
        return str([chunk.choices[0].finish_reason for chunk in stream][-1])
    except openai.APIError as error:
        return str(error.code)


def ask(client: OpenAI, text: str) -> Any:
    try:
        return client.chat.completions.create(model="endless", messages=[user(text)], max_tokens=4)
    except openai.APIStatusError as error:
        return error


def test_it_ends_with_all_that_it_has_started(cluster: Api, client: OpenAI) -> None:
    count(client, "Count.")
    started = cluster.process.children(recursive=True)
    assert len(started) > 10
    cluster.process.terminate()
    assert cluster.process.wait() == 0
    wait_for_end(started)


def test_what_a_conversation_is_known_by() -> None:
    def known(**body: Any) -> str:
        return conversation_id(json.dumps(body).encode())

    first, more = [user("One?")], [{"role": "assistant", "content": "1"}, user("Two?")]
    system = {"role": "system", "content": "Be brief."}
    assert known(messages=first) == known(messages=first + more) != ""
    assert len({known(messages=first), known(messages=[user("Two?")]), known(messages=[system, *first])}) == 3
    assert known(input="One?", instructions="Be brief.") == known(input=first + more, instructions="Be brief.")
    assert known(prompt="One?") == known(messages=[]) == known(messages=7) == conversation_id(b"{") == ""
    assert conversation_id(b"[" * 100_000) == conversation_id(b"[]") == ""


def test_a_model_that_cannot_be_loaded_is_no_replica(endless_models_dir: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(endless_models_dir / "endless", damaged, ignore=lambda *_: ["model.pte"])
    (damaged / "model.pte").write_bytes(b"no program")
    with pytest.raises(RuntimeError, match="truncated"):
        Replica(ReplicaSettings(model=str(damaged)))


def test_settings_that_cannot_be() -> None:
    with pytest.raises(BadSetting, match="no setting replica"):
        app({"replica": "3"})
    with pytest.raises(BadSetting, match="--replicas"):
        app({"replicas": "none"})
