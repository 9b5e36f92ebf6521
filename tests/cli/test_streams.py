"""What goes in and out of the commands: pipes, JSON, progress, and how they end."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from falcon_runtime.cli.notes import LINE_S, Notes
from falcon_runtime.status import Count, Status

from ..command_line import ROOT, Call
from ..served_app import free_port
from .terminals import CTRL_C, terminal

TEXT = "The desert is wide and quiet, and whoever crosses it carries water. " * 12
FEW = ["--temperature", "0", "--max-new-tokens", "4"]


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "text.txt").write_text(TEXT)
    return str(tmp_path / "text.txt")


@pytest.mark.parametrize("arguments", [["-"], []])
def test_a_prompt_comes_by_a_pipe(
    call: Call, small_model: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Once\nupon\n"))
    done = call("generate", *arguments, "--model", small_model.name, *FEW, models_dir=small_model.parent)
    assert done.returncode == 0, done.stderr
    given = call("generate", "Once\nupon", "--model", small_model.name, *FEW, models_dir=small_model.parent)
    assert done.stdout == given.stdout
    assert done.stdout.startswith("Once\nupon")


def test_a_prompt_is_not_waited_for_at_a_keyboard(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard = io.StringIO("typed")
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", keyboard)
    done = call("generate", models_dir=tmp_path)
    assert done.returncode == 2
    assert "No text was given" in done.stderr


def test_a_text_to_score_comes_by_a_pipe(
    call: Call, small_model: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(TEXT))
    flags = ["--model", small_model.name, "--max-windows", "2", "--window", "64", "--json"]
    piped = json.loads(call("perplexity", "-", *flags, models_dir=small_model.parent).stdout)
    named = json.loads(call("perplexity", text, *flags, models_dir=small_model.parent).stdout)
    assert piped["perplexity"] == pytest.approx(named["perplexity"], rel=1e-3)


def test_programs_get_json_from_every_command(
    call: Call, small_model: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    """Results on stdout, and on stderr a line of JSON for whatever else there is to say."""
    folder = str(tmp_path / "converted")
    done = call("convert", str(small_checkpoint), "--output", folder, "--json", models_dir=small_model.parent)
    assert json.loads(done.stdout) == {"model": folder}
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"converting"} == {line["status"]["state"] for line in told if "status" in line}
    assert json.loads(call("inspect", folder, "--json", models_dir=tmp_path).stdout)["problems"] == []

    (tmp_path / "bare").mkdir()
    models = json.loads(call("models", "--json", models_dir=tmp_path).stdout)
    states = {model["name"]: model["state"] for model in models}
    assert (states["converted"], states["bare"], states["falcon3-1b-instruct"]) == (
        "converted",
        "skipped",
        "not converted",
    )
    (converted,) = [model for model in models if model["name"] == "converted"]
    assert (converted["recipe"], converted["context"]) == ("int8", 256)

    failed = call("inspect", "nothing", "--json", models_dir=tmp_path)
    assert (failed.returncode, failed.stdout) == (1, "")
    error = json.loads(failed.stderr)["error"]
    assert error["type"] == "UnknownModel"
    assert error["message"].startswith("There is no model 'nothing'")


@contextmanager
def unread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stdout is a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        yield


@pytest.mark.parametrize(
    "arguments",
    [
        ["models"],
        ["inspect", "{model}"],
        ["generate", "Once", "--model", "{model}", *FEW],
        ["generate", "Once", "--model", "{model}", *FEW, "--json"],
        ["chat", "--model", "{model}", *FEW],
        ["perplexity", "{text}", "--model", "{model}", "--window", "64"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_it_ends_quietly_when_nobody_reads(
    call: Call, small_model: Path, text: str, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    filled = [argument.format(model=small_model.name, text=text) for argument in arguments]
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\nAgain\n"))
    with unread(monkeypatch):
        done = call(*filled, "--quiet", models_dir=small_model.parent)
    assert done.returncode == 141
    assert done.stderr == ""


@contextmanager
def endless_answer(models_dir: Path, *flags: str) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """A process in the midst of an answer, and what it writes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "falcon_runtime", "generate", "Once", "--model", "endless", "--max-new-tokens", "1500"],
        env=os.environ | {"FALCON_MODELS_DIR": str(models_dir)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    with process:
        try:
            yield process, process.stdout
        finally:
            process.kill()


def test_a_real_pipe_that_is_closed_and_one_that_is_interrupted(endless_models_dir: Path) -> None:
    with endless_answer(endless_models_dir) as (process, stdout):
        assert stdout.read(20).startswith(b"Once")
        stdout.close()
        assert process.wait() == 141
        assert process.stderr
        assert process.stderr.read() == b""
    with endless_answer(endless_models_dir) as (process, stdout):
        begun = stdout.read(20)
        process.send_signal(signal.SIGINT)
        rest = stdout.read()
        assert process.wait() == 130
        assert process.stderr
        assert process.stderr.read().startswith(b"[prefill "), "the figures of what there is, and nothing else"
    assert begun.startswith(b"Once")
    assert rest.endswith(b"\n")


def test_help_that_nobody_reads(small_model: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "falcon_runtime", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writer)
    assert done.stderr == b""


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "falcon_runtime", "models"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: The results cannot be written: No space left on device.\n"


def test_a_server_says_where_it_listens(small_model: Path) -> None:
    port = free_port()
    flags = ["--port", str(port), "--model", small_model.name, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "falcon_runtime", "serve", *flags],
        env=os.environ | {"FALCON_MODELS_DIR": str(small_model.parent)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        try:
            assert process.stdout
            told = json.loads(process.stdout.readline())
            assert told == {"url": f"http://127.0.0.1:{port}/v1"}
            assert httpx.get(f"{told['url']}/models", trust_env=False, timeout=60).status_code == 200
        finally:
            process.terminate()
        assert process.wait() == 0


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_work_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Screen())
    notes = Notes()
    notes.status(Status("working", "Windows scored: 3 of 40,", 3 / 40, 20.0))
    shown = screen.getvalue()
    assert "Windows scored: 3 of 40   8% |" in shown
    assert "about 20 s left" in shown
    assert "\n" not in shown
    notes.note("Said meanwhile.")
    assert screen.getvalue().rpartition("\r")[2] == "Said meanwhile.\n", "on a line of its own"


def test_work_is_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", log := io.StringIO())
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    notes = Notes()
    count = Count("Windows scored", 40, notes.status)
    for _ in range(40):
        now += LINE_S / 4
        count.add()
    notes.status(Status("ready", "It is ready"))
    lines = log.getvalue().splitlines()
    assert lines[0] == "Windows scored: 0 of 40, 0%"
    assert lines[1] == "Windows scored: 4 of 40, 10%, about 2 min left"
    assert len(lines) == 12
    assert lines[-1] == "It is ready"


def test_a_result_stands_on_a_line_of_its_own(small_model: Path, text: str) -> None:
    with terminal("-m", "falcon_runtime", "perplexity", text, "--model", str(small_model)) as keyboard:
        shown = keyboard.until(b" tokens in ")
    assert b"Windows scored: " in shown
    assert re.search(rb"\r +\rperplexity [\d.]+ of [\d,]+ tokens in ", shown), "what was there is gone"


def test_work_that_is_interrupted_at_a_terminal(small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(TEXT * 100)
    flags = ["--model", str(small_model), "--window", "2"]
    with terminal("-m", "falcon_runtime", "perplexity", str(tmp_path / "long.txt"), *flags) as keyboard:
        keyboard.until(b"Windows scored: ")
        keyboard.type(CTRL_C)
        assert keyboard.process.wait() == 130
