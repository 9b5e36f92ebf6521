"""Conversations on the command line: at a keyboard, and in a pipe."""

import io
import json
import re
import signal
from pathlib import Path

import pytest

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.cli.answers import Interrupts

from ..command_line import Call, run
from .terminals import ASKS, CTRL_C, CTRL_D, UP, Terminal, terminal

READING = (
    "from falcon_runtime.cli.questions import read_messages\n"
    "for kept in (True, True, False):\n"
    "    for text in read_messages(kept): print(ascii(text))"
)


def test_each_line_of_a_pipe_is_answered(small_model: Path) -> None:
    flags = ["--temperature", "0", "--max-new-tokens", "4", "--system", "Be kind."]
    done = run("chat", "--model", str(small_model), *flags, models_dir=small_model.parent, input="Hello\n\nAgain\n")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("[prefill ") == 2
    assert len(done.stdout.splitlines()) >= 2


def test_programs_get_an_object_for_each_answer(call: Call, small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"Hello\n{'too long ' * 300}\nAgain\n"))
    flags = ["--temperature", "0", "--max-new-tokens", "4", "--system", "", "--json"]
    done = call("chat", "--model", str(small_model), *flags, models_dir=small_model.parent)
    first, second = map(json.loads, done.stdout.splitlines())
    assert second["stats"]["prompt_tokens"] > first["stats"]["prompt_tokens"], "the conversation has gone on"
    (failed,) = map(json.loads, done.stderr.splitlines())
    assert failed["error"]["type"] == "PromptTooLong"
    assert done.returncode == 1, "one message was not answered"


def test_what_is_typed_is_remembered_and_pasted_lines_are_one_message(tmp_path: Path) -> None:
    with terminal("-c", READING, XDG_STATE_HOME=tmp_path) as keyboard:
        keyboard.until(ASKS)
        keyboard.type(b"\x1b[200~one\ntwo\nthree\x1b[201~ four\r")
        assert rb"'one\ntwo\nthree four'" in keyboard.until(ASKS)
        keyboard.type(UP + b"!\r")  # The history has it as one, to be edited.
        assert rb"'one\ntwo\nthree four!'" in keyboard.until(ASKS)
        keyboard.type(CTRL_D)
        keyboard.until(ASKS)  # The next run.
        keyboard.type(UP + b"?\r")
        assert rb"'one\ntwo\nthree four!?'" in keyboard.until(ASKS)
        keyboard.type(CTRL_D)
        keyboard.until(ASKS)  # And one without a history.
        keyboard.type(UP + b"secret\r")
        assert b"'secret'" in keyboard.until(ASKS)
        keyboard.type(CTRL_D)
        assert keyboard.process.wait() == 0
    file = tmp_path / "falcon-runtime" / "chat-history"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "secret" not in file.read_text()


def test_ctrl_c_stops_the_answer_and_not_the_program(endless_models_dir: Path, tmp_path: Path) -> None:
    flags = ["--model", "endless", "--max-new-tokens", "1500", "--system", ""]
    variables = {"FALCON_MODELS_DIR": endless_models_dir, "XDG_STATE_HOME": tmp_path}
    with terminal("-m", "falcon_runtime", "chat", *flags, **variables) as keyboard:
        keyboard.until(ASKS)
        prompt, decoded = interrupted(keyboard, b"Count.\r")
        prompt_then, _ = interrupted(keyboard, b"Go on.\r")
        assert prompt_then > prompt + decoded // 2, "the conversation goes on with what was written"
        keyboard.type(b"never mind" + CTRL_C)
        keyboard.until(ASKS)
        assert keyboard.process.poll() is None
        keyboard.type(CTRL_C)
        assert keyboard.process.wait() == 0
    typed = (tmp_path / "falcon-runtime" / "chat-history").read_text().splitlines()
    assert [line for line in typed if line.startswith("+")] == ["+Count.", "+Go on."]


def interrupted(keyboard: Terminal, message: bytes) -> tuple[int, int]:
    """The tokens of a prompt and of its answer, which Ctrl-C stops."""
    keyboard.type(message)
    keyboard.until(b"\x1b[?2004l")  # Nothing is typed any more.
    keyboard.more(60)
    keyboard.type(CTRL_C)
    shown = keyboard.until(ASKS).decode()
    found = re.search(r"\[prefill (\d+) tokens .* decode (\d+) at", shown)
    assert found, shown
    return int(found[1]), int(found[2])


def test_an_interrupt_while_nothing_is_answered_is_as_ever(small_model: Path) -> None:
    with FalconRuntime(str(small_model)) as runtime, Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        for _ in interrupts.chunks(lambda: runtime.generate("Once", SamplingParams(max_new_tokens=100))):
            signal.raise_signal(signal.SIGINT)
        assert interrupts.interrupted
        list(interrupts.chunks(lambda: runtime.generate("Once", SamplingParams(max_new_tokens=2))))
        assert not interrupts.interrupted
