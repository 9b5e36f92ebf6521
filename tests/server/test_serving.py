"""The server around the answers: who may ask, what it tells, and how it ends."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from falcon_runtime.fleet import Fleet
from falcon_runtime.server import ServerSettings, create_app
from tests.awaited import awaited
from tests.served_app import wait_until

from .conftest import MODEL, Api, serve

ENDLESS: Any = {"model": None, "messages": [{"role": "user", "content": "Count."}], "stream": True}


def test_models(api: Api) -> None:
    models = api.client().models.list().data
    assert models[0].id == MODEL
    assert api.client().models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        api.client().models.retrieve("no/such:model")


def test_it_tells_how_it_is(api: Api) -> None:
    before = api.metric("generated_tokens_total")
    api.client().completions.create(model=MODEL, prompt="1, 2, 3,", max_tokens=5)
    assert api.metric("generated_tokens_total") == before + 5
    assert api.metric("slots") == 8
    assert api.get("/health").json()["status"] == "ok"
    assert api.get("/health/ready").json() == {"ready": True, "model": MODEL, "state": "SmolLM2-135M-Instruct is ready"}
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models"} <= set(paths)
    assert api.get("/docs").status_code == 200
    assert api.get("/nothing").json()["error"]["type"] == "invalid_request_error"


def test_the_example_of_a_client(api: Api) -> None:
    example = Path(__file__).parents[2] / "examples" / "api_client.py"
    command = [sys.executable, str(example), "What is the capital of France?", f"{api.url}/v1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout) > 3


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[]", b""])
def test_bodies_that_are_no_objects(api: Api, body: bytes) -> None:
    answer = api.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["message"]


def test_limits_and_a_key(endless_models_dir: Path) -> None:
    flags = ("--model", "endless", "--api-key", "secret", "--requests-at-once", "2", "--upload-megabytes", "1")
    with serve(endless_models_dir, *flags) as api:
        with pytest.raises(openai.AuthenticationError) as refused:
            api.client("wrong").models.list()
        assert refused.value.code == "invalid_api_key"
        assert api.get("/health").status_code == 200

        client = api.client("secret")
        streams = [client.chat.completions.create(**ENDLESS) for _ in range(2)]
        for stream in streams:
            next(iter(stream))
        assert api.metric("running_requests") == 2
        with pytest.raises(openai.RateLimitError) as busy:
            client.chat.completions.create(**ENDLESS)
        assert busy.value.response.headers["Retry-After"] == "5"

        for stream in streams:  # Who goes away leaves the slot to others.
            stream.close()
        wait_until(lambda: api.metric("running_requests") == 0)
        answer = httpx.Client(trust_env=False)
        with pytest.raises(httpx.ReadTimeout):
            answer.post(
                f"{api.url}/v1/chat/completions",
                json=ENDLESS | {"stream": False},
                headers={"Authorization": "Bearer secret"},
                timeout=1,
            )
        wait_until(lambda: api.metric("running_requests") == 0)

        large = {"prompt": "x" * 1_100_000}
        with pytest.raises(openai.APIStatusError) as too_much:
            client.post("/completions", body=large, cast_to=object)
        assert too_much.value.status_code == 413


def test_a_failure_in_the_midst_of_a_stream_is_told(endless_models_dir: Path) -> None:
    with serve(endless_models_dir, "--model", "endless") as api:
        lines = []
        with httpx.stream(
            "POST", f"{api.url}/v1/chat/completions", json=ENDLESS, trust_env=False, timeout=60
        ) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                if len(lines) == 8:
                    (engine,) = [
                        child for child in api.process.children() if "engine.worker" in " ".join(child.cmdline())
                    ]
                    engine.kill()
        assert '"error"' in lines[-2]
        assert "EngineDied" in lines[-2]


def test_requests_need_not_wait_for_the_model(small_model: Path) -> None:
    """As configured: 503 while the model is not loaded, and the answer when it is."""
    body = {"prompt": "A", "max_tokens": 2}

    async def ask(fleet: Fleet, wait: bool) -> httpx.Response:
        api = create_app(fleet, ServerSettings(wait_for_model=wait))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api", timeout=60) as client:
            return await client.post("/v1/completions", json=body)

    with Fleet(str(small_model)) as fleet:
        refused = awaited(ask, fleet, False)
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        wait_until(lambda: fleet.current.status.state == "ready")  # It is being loaded for who comes back.
        assert awaited(ask, fleet, False).status_code == 200
    with Fleet(str(small_model)) as fleet:
        assert awaited(ask, fleet, True).status_code == 200


def test_limits_of_an_answer(small_model: Path) -> None:
    """A default is no more than there may be, what is asked for is told by the name that the client knows it by, and
    what can never be served is no matter of waiting."""
    settings = ServerSettings(new_tokens=4, queue_length=2)

    async def ask(fleet: Fleet, **body: Any) -> httpx.Response:
        api = create_app(fleet, settings)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api", timeout=60) as client:
            kind = "chat/completions" if "messages" in body else "completions"
            return await client.post(f"/v1/{kind}", json=body)

    with Fleet(str(small_model)) as fleet:
        done = awaited(partial(ask, prompt="A"), fleet)
        assert done.json()["usage"]["completion_tokens"] <= 4
        for more in ({"prompt": "A"}, {"messages": [{"role": "user", "content": "A"}]}):
            refused = awaited(partial(ask, max_tokens=5, **more), fleet)
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == "max_tokens"
        many = awaited(partial(ask, prompt=["A"] * 4), fleet)
        assert many.status_code == 400
        assert "3 answers here, not for 4" in many.json()["error"]["message"]


def test_it_ends_at_once_and_knows_no_gradio(endless_models_dir: Path) -> None:
    with serve(endless_models_dir, "--model", "endless") as api:
        stream = api.client().chat.completions.create(**ENDLESS)
        next(iter(stream))
        children = api.process.children(recursive=True)
        api.process.terminate()
        assert api.process.wait() == 0
        assert not [child for child in children if child.is_running() and child.status() != "zombie"]
    program = "import falcon_runtime.server.serving, sys; sys.exit('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_port_that_is_in_use(api: Api, starter_models_dir: Path) -> None:
    port = api.url.rpartition(":")[2]
    command = [sys.executable, "-m", "falcon_runtime", "serve", "--port", port]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"port {port}" in ended.stderr
    command[-1] = "0"
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--port" in ended.stderr
