"""Batches: each request is answered once, whatever happens in between."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..command_line import ROOT, Call
from ..served_app import wait_for_end, wait_until

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"


def request(custom_id: str, url: str = COMPLETIONS, **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def few(custom_id: str, **more: Any) -> dict[str, Any]:
    return request(custom_id, prompt=f"Once {custom_id}", max_tokens=3, temperature=0, **more)


def save(folder: Path, *lines: dict[str, Any] | str) -> Path:
    file = folder / "in.jsonl"
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return file


def answers(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def batch(call: Call, small_model_slots: Path) -> Call:
    """Runs a batch of a folder's in.jsonl to its out.jsonl. In a thread, as it has an event loop of its own."""

    def run(folder: Path, *flags: str, source: str = "in.jsonl") -> subprocess.CompletedProcess[str]:
        files = str(folder / source), str(folder / "out.jsonl")
        arguments = ["batch", *files, "--model", str(small_model_slots), *flags]
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(call, *arguments, models_dir=small_model_slots.parent).result()

    return run


def test_each_endpoint_answers_and_what_fails_says_why(batch: Call, tmp_path: Path, small_model_slots: Path) -> None:
    hi = [{"role": "user", "content": "Hi"}]
    save(
        tmp_path,
        request("chat", CHAT, messages=hi, max_tokens=3),
        request("completion", prompt=["A", "B"], max_tokens=2, n=2),
        request("response", RESPONSES, input="Hi", max_output_tokens=3),
        "",
        request("named", CHAT, messages=hi, max_tokens=3, model=small_model_slots.name),
        request("unknown model", CHAT, messages=hi, model="gpt-4o"),
        request("empty", CHAT, messages=[]),
        request("hot", prompt="A", temperature=9),
        request("long", prompt="A" * 1000),
        request("half", prompt="\ud83d", max_tokens=1, temperature=float("nan")),
        request("half \ud83d", prompt="A"),
    )
    done = batch(tmp_path, "--json")
    assert done.returncode == 1, done.stderr
    told = {answer["custom_id"]: answer for answer in answers(tmp_path / "out.jsonl")}
    assert "custom_id" in told.pop("half \ud83d")["error"]["message"]
    statuses = {name: answer["response"]["status_code"] for name, answer in told.items()}
    assert statuses == {
        "chat": 200,
        "completion": 200,
        "response": 200,
        "named": 200,
        "unknown model": 404,
        "empty": 422,
        "hot": 400,
        "long": 400,
        "half": 400,
    }
    bodies = {name: answer["response"]["body"] for name, answer in told.items()}
    assert bodies["chat"]["object"] == "chat.completion"
    assert len(bodies["completion"]["choices"]) == 4
    assert bodies["response"]["object"] == "response"
    assert bodies["unknown model"]["error"]["code"] == "model_not_found"
    assert bodies["long"]["error"]["code"] == "context_length_exceeded"
    assert all(answer["error"] is None for answer in told.values())
    assert len({answer["response"]["request_id"] for answer in told.values()}) == 9
    result = json.loads(done.stdout)
    assert (result["requests"], result["kept"], result["failed"]) == (10, 0, 6)
    assert result["generated_tokens"] == sum(
        usage.get("completion_tokens", usage.get("output_tokens"))
        for body in bodies.values()
        if (usage := body.get("usage"))
    )


def test_lines_that_are_no_requests_get_a_sentence_and_the_others_go_on(batch: Call, tmp_path: Path) -> None:
    save(
        tmp_path,
        few("1"),
        "{oops",
        few("1"),
        few("streamed", stream=True),
        {"custom_id": "bare"},
        few("elsewhere") | {"url": "/v1/embeddings"},
        few("got") | {"method": "GET"},
        "[" * 10_000,
        few("2"),
    )
    assert batch(tmp_path).returncode == 1
    told = answers(tmp_path / "out.jsonl")
    errors = {answer["error"]["line"]: answer["error"] for answer in told if answer["error"]}
    assert sorted(errors) == [2, 3, 4, 5, 6, 7, 8]
    for line, words in {
        2: "is not JSON",
        3: "that of line 1",
        4: "cannot be streamed",
        5: "body: field required",
        6: "url: input should be '/v1/chat/completions'",
        7: "method: input should be 'POST'",
        8: "nested too deep",
    }.items():
        assert f"Line {line}" in errors[line]["message"]
        assert words in errors[line]["message"]
    assert sorted(answer["custom_id"] for answer in told if answer["response"]) == ["1", "2"]
    before = (tmp_path / "out.jsonl").read_text()
    assert batch(tmp_path).returncode == 1
    assert (tmp_path / "out.jsonl").read_text() == before, "nothing is told twice"


def test_what_is_there_is_kept_and_a_torn_line_is_not(batch: Call, tmp_path: Path) -> None:
    names = [f"{number}" for number in range(6)]
    save(tmp_path, *map(few, names))
    assert batch(tmp_path).returncode == 0
    output = tmp_path / "out.jsonl"
    whole = output.read_text().splitlines(keepends=True)
    assert sorted(answer["custom_id"] for answer in answers(output)) == names

    output.write_text("".join(whole[:2]) + whole[2][:30])
    done = batch(tmp_path, "--json")
    assert json.loads(done.stdout)["kept"] == 2
    assert output.read_text().startswith("".join(whole[:2]))
    assert sorted(answer["custom_id"] for answer in answers(output)) == names

    save(tmp_path, *map(few, [*names, "more"]))  # What is added to the requests is done, and nothing else.
    before = output.read_text()
    assert json.loads(batch(tmp_path, "--json").stdout)["kept"] == 6
    assert output.read_text().startswith(before)
    assert answers(output)[6]["custom_id"] == "more"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("notes of mine\n", "is not a file of a batch's answers"),
        ("notes of mine", "is not a file of a batch's answers"),
        ('{"id": "batch_req_0", "custom_id": "1", "response": null, "error": {}}\n', "made from another file"),
        ('{"id": "batch_req_0", "cus\n', "is not a file of a batch's answers"),
    ],
)
def test_a_file_with_something_else_in_it_is_left_alone(batch: Call, tmp_path: Path, content: str, words: str) -> None:
    save(tmp_path, few("1"))
    (tmp_path / "out.jsonl").write_text(content)
    refused = batch(tmp_path)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert (tmp_path / "out.jsonl").read_text() == content


def test_files_that_are_wrong_as_a_whole(batch: Call, tmp_path: Path) -> None:
    assert "cannot be read" in batch(tmp_path).stderr
    save(tmp_path, few("1"))
    changed = save(tmp_path, few("1"))
    assert batch(tmp_path).returncode == 0
    changed.write_text(changed.read_text().replace("Once", "Twice"))
    assert "that one has changed" in batch(tmp_path).stderr
    changed.write_text("no\nrequests\n")
    assert "has no requests: Line 1 is not JSON" in batch(tmp_path).stderr

    (tmp_path / "out.jsonl").unlink()
    save(tmp_path, few("1"))
    (tmp_path / "out.jsonl").symlink_to(changed)
    before = changed.read_text()
    assert "Name another file for them" in batch(tmp_path).stderr
    assert changed.read_text() == before
    (tmp_path / "out.jsonl").unlink()
    (tmp_path / "out.jsonl").mkdir()
    assert "cannot be written" in batch(tmp_path).stderr


def test_an_interrupted_batch_goes_on_without_doing_anything_twice(endless_models_dir: Path, tmp_path: Path) -> None:
    """By whatever signal, and as often as it likes."""
    save(tmp_path, *(request(f"{n}", prompt=f"{n}", max_tokens=8 + 8 * (n % 6), seed=n) for n in range(36)))
    output = tmp_path / "out.jsonl"
    files = str(tmp_path / "in.jsonl"), str(output)
    command = [sys.executable, "-m", "falcon_runtime", "batch", *files, "--model", "endless", "--json", "--quiet"]
    environment = os.environ | {"FALCON_MODELS_DIR": str(endless_models_dir)}

    def kept() -> str:
        """What is in whole lines."""
        written = output.read_text() if output.exists() else ""
        return written[: written.rfind("\n") + 1]

    before = ""
    for ending in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        enough = before.count("\n") + 3
        process = psutil.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        wait_until(lambda enough=enough: kept().count("\n") >= enough)
        process.suspend()  # Else it would go on, perhaps to its end, while others are tried.
        children = process.children(recursive=True)
        if ending == signal.SIGKILL:
            second = subprocess.run(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
            assert "is being written by another batch" in second.stderr
        process.send_signal(ending)
        process.resume()
        assert process.stderr.read() == b""
        assert process.wait() == (130 if ending == signal.SIGINT else -ending)
        wait_for_end(children)
        assert kept().startswith(before)
        before = kept()
        assert before.count("\n") < 36

    process = psutil.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE)
    wait_until(lambda: kept().count("\n") > before.count("\n"))
    for child in process.children():  # What the engine's end has cost is asked again, too.
        if "falcon_runtime.engine.worker" in child.cmdline():
            child.kill()
    result = json.loads(process.stdout.read())
    assert process.wait() == 0
    assert (result["kept"], result["failed"]) == (before.count("\n"), 0)
    assert output.read_text().startswith(before)
    assert Counter(answer["custom_id"] for answer in answers(output)) == {f"{n}": 1 for n in range(36)}
