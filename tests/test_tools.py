"""The endpoints as tools, called by the official client of the Model Context Protocol."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, CancelledNotification, CancelledNotificationParams, ClientNotification

from ui.endpoints import ENDPOINTS, EXAMPLES

from .awaited import awaited
from .served_app import ServedApp, connect, is_idle, serve, slowed, wait_until

PATH = "/gradio_api/mcp"
LONG = {"prompt": "Once upon a time", "max_new_tokens": 2000}
AT_ONCE = 3


@pytest.fixture(scope="module")
def app(endless_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """An app behind one proxy, of which a client may ask for a few answers at a time."""
    limits = {"FALCON_REQUESTS_AT_ONCE": str(AT_ONCE), "FALCON_PROXIES": "1"}
    log = tmp_path_factory.mktemp("tools") / "log"
    with serve(endless_models_dir, log, "--model", "endless", **limits) as served:
        yield served


@asynccontextmanager
async def session(app: ServedApp, address: str = "198.51.100.1") -> AsyncIterator[ClientSession]:
    """A client's session with the app."""
    headers = {"X-Forwarded-For": address}
    async with (
        httpx.AsyncClient(headers=headers, trust_env=False, timeout=120) as http,
        streamable_http_client(f"{app.url}{PATH}/", http_client=http) as (read, write, _),
        ClientSession(read, write) as opened,
    ):
        await opened.initialize()
        yield opened


def with_session(app: ServedApp, use: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with session(app) as opened:
            return await use(opened)

    return awaited(run)


def call(app: ServedApp, tool: str, **values: Any) -> CallToolResult:
    result = with_session(app, lambda opened: opened.call_tool(tool, values))
    assert isinstance(result, CallToolResult)
    return result


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert content.type == "text"
    return content.text


def test_three_tools_that_say_what_they_are(app: ServedApp) -> None:
    tools = {tool.name: tool for tool in with_session(app, ClientSession.list_tools).tools}
    assert list(tools) == ["generate", "chat", "instruct"]
    for name, tool in tools.items():
        assert tool.description
        assert "Returns: " in tool.description
        fields = tool.inputSchema["properties"]
        assert list(fields) == ENDPOINTS[name].parameters
        assert tool.inputSchema["required"] == ENDPOINTS[name].required == ENDPOINTS[name].parameters[:1]
        for parameter, schema in fields.items():
            assert schema["type"] in ("string", "integer", "number", "boolean", "array", "object"), parameter
            assert len(schema["description"]) > 8, parameter
            jsonschema.validate(schema["examples"][0], schema)
        assert fields["temperature"] | {"minimum": 0, "maximum": 5} == fields["temperature"]
    for kind in ("list_resources", "list_prompts"):
        assert not getattr(with_session(app, getattr(ClientSession, kind)), kind.removeprefix("list_"))


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_tool_answers_as_its_endpoint_does(app: ServedApp, name: str) -> None:
    values = {parameter: EXAMPLES[parameter] for parameter in ENDPOINTS[name].parameters if parameter != "constraint"}
    result = call(app, name, **values)
    assert not result.isError
    assert text_of(result) == connect(app).predict(**values, api_name=f"/{name}")
    assert text_of(result)


@pytest.mark.parametrize(
    ("tool", "values", "words"),
    [
        ("generate", {"prompt": "Hi", "temperature": -5}, "temperature: .* not -5"),
        ("generate", {}, "prompt is missing"),
        ("generate", {"prompt": "Hi", "temprature": 1}, "no parameter temprature; the parameters are prompt, "),
        ("chat", {"message": 5}, "message must be text, not 5"),
        ("chat", {"message": "Hi", "history": [{"role": "king", "content": "Hi"}]}, "role"),
        ("instruct", {"instruction": "Hi", "constraint": {"regx": "("}}, "regx"),
        ("generate", {"prompt": "falcon " * 4000}, "tokens"),
        ("translate", {"text": "Hi"}, "no tool 'translate'; the tools are generate, chat, instruct"),
    ],
)
def test_what_is_wrong_is_an_error_with_our_sentence(
    app: ServedApp, tool: str, values: dict[str, Any], words: str
) -> None:
    result = call(app, tool, **values)
    assert result.isError
    assert re.search(words, text_of(result)), text_of(result)


def test_progress_is_told(app: ServedApp) -> None:
    told: list[tuple[float, str | None]] = []

    async def run() -> None:
        enough = asyncio.Event()

        async def note(progress: float, _total: float | None, message: str | None) -> None:
            told.append((progress, message))
            if message == "Writing":
                enough.set()

        async with session(app) as opened:
            asked = asyncio.create_task(opened.call_tool("generate", LONG, None, note))
            await enough.wait()
            asked.cancel()

    with slowed(app.worker()):
        awaited(run)
    assert [step for step, _ in told] == list(range(1, len(told) + 1))


def test_a_cancelled_call_ends(app: ServedApp) -> None:
    """As a host's Stop says it, and by a client that goes away; nobody else's ends with it."""

    async def run() -> str:
        async with session(app) as first, session(app) as other, session(app) as leaving:
            with slowed(app.worker()):
                long = [asyncio.create_task(client.call_tool("generate", LONG)) for client in (first, leaving)]
                kept = asyncio.create_task(other.call_tool("generate", LONG | {"max_new_tokens": 200}))
                await asyncio.to_thread(wait_until, lambda: running(app) == 3)
                number = first._request_id - 1
                assert number == other._request_id - 1, "their clients give them the same number"
                params = CancelledNotificationParams(requestId=number)
                await first.send_notification(
                    ClientNotification(CancelledNotification(method="notifications/cancelled", params=params))
                )
                await asyncio.to_thread(wait_until, lambda: running(app) == 2)
            answer = text_of(await kept)
            for asked in long:
                asked.cancel()
        return answer

    assert len(awaited(run)) > 100
    wait_until(lambda: running(app) == 0)
    assert any(is_idle(app.worker()) for _ in range(12))
    assert "Traceback" not in app.log.read_text()


def running(app: ServedApp) -> float:
    lines = httpx.get(f"{app.url}/metrics", trust_env=False).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("falcon_running_requests ")))


def test_a_client_may_have_so_many_answers(app: ServedApp) -> None:
    """Of tools and of the page's endpoints together, and another client is served meanwhile."""

    async def run() -> tuple[CallToolResult, CallToolResult]:
        async with session(app, "198.51.100.2") as greedy, session(app, "198.51.100.3") as other:
            calls = [asyncio.create_task(greedy.call_tool("generate", LONG)) for _ in range(AT_ONCE)]
            await asyncio.to_thread(wait_until, lambda: running(app) == AT_ONCE)
            refused = await greedy.call_tool("generate", LONG)
            asked = httpx.post(
                f"{app.url}/gradio_api/call/generate",
                json={"data": ["Hi", 2]},
                headers={"X-Forwarded-For": "198.51.100.2"},
                trust_env=False,
            )
            assert asked.status_code == 429
            served = await other.call_tool("generate", {"prompt": "Hi", "max_new_tokens": 2})
            for task in calls:
                task.cancel()
        return refused, served

    refused, served = awaited(run)
    assert refused.isError
    assert f"at most {AT_ONCE} are allowed" in text_of(refused)
    assert not served.isError
    wait_until(lambda: running(app) == 0)


def post(app: ServedApp, path: str = PATH, **headers: str) -> httpx.Response:
    accepted = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}'
    return httpx.post(f"{app.url}{path}", content=body, headers=accepted | headers, trust_env=False)


def test_what_else_there_is_at_its_address(app: ServedApp) -> None:
    assert httpx.get(f"{app.url}/config", trust_env=False).json()["mcp_server"] is True, "the API view tells of it"
    schema = httpx.get(f"{app.url}{PATH}/schema", trust_env=False).json()
    assert [tool["name"] for tool in schema] == ["generate", "chat", "instruct"]
    assert post(app).status_code == post(app, f"{PATH}/").status_code == 200
    page = httpx.get(f"{app.url}{PATH}/", headers={"Accept": "text/html"}, trust_env=False)
    assert f"{app.url}{PATH}/" in page.text
    assert "content-security-policy" in page.headers
    stream = httpx.get(f"{app.url}{PATH}/", headers={"Accept": "text/event-stream"}, trust_env=False)
    assert stream.status_code == httpx.delete(f"{app.url}{PATH}/", trust_env=False).status_code == 405
    for path in ("sse", "messages/?session_id=1", "http", "other"):
        assert httpx.get(f"{app.url}{PATH}/{path}", trust_env=False).status_code == 404
        assert post(app, f"{PATH}/{path}").status_code == 404


def test_pages_elsewhere_may_not_call_tools_of_this_machine(app: ServedApp) -> None:
    assert post(app, Origin="https://example.com").status_code == 403
    assert post(app, Origin="http://localhost:6274").status_code == 200
    assert post(app, Origin="https://example.com", Host="demo.example").status_code == 200, "a public page is for all"
    assert post(app, **{"Content-Type": "text/plain"}).status_code == 400, "which a browser sends unasked"


def test_an_owner_may_not_want_it(endless_models_dir: Path, tmp_path: Path) -> None:
    with serve(endless_models_dir, tmp_path / "log", "--model", "endless", "--no-mcp") as app:
        assert post(app).status_code == 404
        assert httpx.get(f"{app.url}{PATH}/schema", trust_env=False).status_code == 404
        assert httpx.get(f"{app.url}/config", trust_env=False).json()["mcp_server"] is False
