"""The command line as a user calls it."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from falcon_runtime.chunk import Stats
from falcon_runtime.cli.answers import defaults_in_use, summary
from falcon_runtime.cli.notes import Notes
from falcon_runtime.models.catalog import CATALOG, EXAMPLES
from falcon_runtime.models.defaults import Defaults
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.status import Status

from ..command_line import Call, run, run_bytes

TEXT = "The desert is wide and quiet, and whoever crosses it carries water. " * 12


def test_generate_prints_one_json_object(call: Call, small_model: Path) -> None:
    flags = ["--temperature", "0", "--max-new-tokens", "9", "--json"]
    done = call("generate", "Once upon", "--model", str(small_model), *flags, models_dir=small_model.parent)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["token_ids"]) == 9
    assert result["finish_reason"] == "length"
    assert result["stats"]["prompt_tokens"] == 9
    assert result["stats"]["generated_tokens"] == 9
    assert result["stats"]["cached_tokens"] == 0
    for figure in ("prefill_tokens_per_second", "decode_tokens_per_second", "time_to_first_token_s"):
        assert result["stats"][figure] > 0
    assert "logprobs" not in result


def test_generate_reports_logprobs_where_asked_for(call: Call, small_model: Path) -> None:
    flags = ["--temperature", "0", "--max-new-tokens", "5", "--logprobs", "2", "--json"]
    done = call("generate", "Once upon", "--model", str(small_model), *flags, models_dir=small_model.parent)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [token["token_id"] for token in result["logprobs"]] == result["token_ids"]
    for token in result["logprobs"]:
        assert token["top"][0] == [token["token_id"], token["logprob"]], "the likeliest is taken at temperature 0"
        assert len(token["top"]) == 2


def test_the_summary_tells_what_there_is_to_tell() -> None:
    stats = Stats(prompt_tokens=9, generated_tokens=80, drafted_tokens=52, accepted_tokens=34, dropped_messages=2)
    assert summary(stats, "stop").endswith("decode 80 at 0/s, 52 drafted and 34 accepted, oldest messages left out: 2")
    by_model = replace(stats, dropped_messages=0, draft_model="Small", drafted_by_model=40, accepted_by_model=30)
    assert summary(by_model, "stop").endswith("52 drafted and 34 accepted (40 and 30 by Small)")
    assert summary(Stats(prompt_tokens=9, generated_tokens=8), "stop").endswith("decode 8 at 0/s")
    assert summary(Stats(prompt_tokens=9, generated_tokens=8), None).endswith("decode 8 at 0/s")


def test_the_summary_tells_why_an_answer_ended_early_and_what_helps() -> None:
    stats = Stats(prompt_tokens=9, generated_tokens=80, context=256)
    assert "--repetition-penalty" in summary(stats, "repetition")
    assert "--max-new-tokens" in summary(stats, "length")
    assert "the context is full" in summary(replace(stats, context=89), "length")


def test_the_defaults_in_use_are_those_that_no_flag_changes() -> None:
    defaults = Defaults(SamplingParams(temperature=0.6, top_k=20), "Be kind.", EXAMPLES)
    nothing = SamplingParams()
    assert (
        defaults_in_use(nothing, None, defaults)
        == "--max-new-tokens 256 --temperature 0.6 --top-k 20 --system 'Be kind.'"
    )
    assert defaults_in_use(SamplingParams(top_k=1, max_new_tokens=9), "", defaults) == "--temperature 0.6"
    assert defaults_in_use(SamplingParams(top_k=1, max_new_tokens=9, temperature=1), "", defaults) == "none"


def test_generate_streams_the_prompt_and_what_follows(call: Call, small_model: Path) -> None:
    arguments = ["generate", "Once upon", "--model", small_model.name, "--temperature", "0", "--max-new-tokens", "9"]
    streamed = run(*arguments, models_dir=small_model.parent)
    result = json.loads(call(*arguments, "--json", models_dir=small_model.parent).stdout)
    assert streamed.stdout == "Once upon" + result["text"] + "\n"
    assert "decode 9 at" in streamed.stderr


def test_bytes_that_are_no_text_become_replacement_characters(small_model: Path) -> None:
    flags = ["--model", small_model.name, "--temperature", "0", "--max-new-tokens", "2"]
    done = run_bytes("generate", b"caf\xe9", *flags, "--stop", b"\xff", models_dir=small_model.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith("caf\N{REPLACEMENT CHARACTER}")
    done = run_bytes("chat", *flags, "--system", b"\xff", models_dir=small_model.parent, input=b"\xe9\nHi\n")
    assert done.returncode == 0, done.stderr
    # A token for each of U+FFFD's three bytes, in the system prompt and in the message; then the second message.
    assert b"[prefill 9 tokens" in done.stderr
    assert done.stderr.count(b"[prefill ") == 2


def test_files_whose_names_are_no_text_are_found(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.txt"
    Path(os.fsdecode(name)).write_text("Hello")
    done = run_bytes("perplexity", name, "--model", "nothing", models_dir=tmp_path)
    assert b"There is no model" in done.stderr  # The file was read before.
    done = run_bytes("perplexity", name + b"x", "--model", "nothing", models_dir=tmp_path)
    assert "\N{REPLACEMENT CHARACTER}.txtx cannot be read" in done.stderr.decode()


def test_perplexity_of_a_text(small_model: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    flags = ["--window", "64", "--max-windows", "3", "--json"]
    done = run(
        "perplexity", str(tmp_path / "text.txt"), "--model", str(small_model), *flags, models_dir=small_model.parent
    )
    result = json.loads(done.stdout)
    assert result["tokens"] == 3 * 63
    assert result["perplexity"] > 1
    assert result["seconds"] > 0


def test_models_lists_the_catalogue_and_what_is_converted(small_model: Path) -> None:
    lines = run("models", models_dir=small_model.parent).stdout
    for name in CATALOG:
        assert name in lines
    assert f"{small_model.name:26}converted: fp32, 256 tokens" in lines
    for words in ("14.9 GB to download, 4.3 GB when converted", "tiiuae/Falcon3-7B-Instruct", "TII Falcon-LLM License"):
        assert words in lines


def test_models_lists_a_damaged_one_as_damaged_and_goes_on(call: Call, small_model: Path, tmp_path: Path) -> None:
    for name in ("a-whole", "b-damaged", "c-cut", "d-whole"):
        shutil.copytree(small_model, tmp_path / name)
    (tmp_path / "b-damaged" / "manifest.json").write_text("[" * 100_000)
    (tmp_path / "c-cut" / "model.pte").write_bytes(b"")
    done = call("models", models_dir=tmp_path)
    assert done.returncode == 0
    states = {line[:26].strip(): line[26:].split(":")[0] for line in done.stdout.splitlines() if line[0] != " "}
    assert [states[name] for name in ("a-whole", "b-damaged", "c-cut", "d-whole")] == [
        "converted",
        "damaged",
        "damaged",
        "converted",
    ]


def test_models_tells_in_a_line_why_a_folder_is_skipped(small_model: Path, tmp_path: Path) -> None:
    shutil.copytree(small_model, tmp_path / "whole")
    bad = {
        "infinite": '{"converter": Infinity}',
        "not-a-number": '{"converter": NaN}',
        "deep": "[" * 100_000,
        "no-json": "\n\n",
        "list": "[]",
    }
    for name, manifest in bad.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(manifest)
    (tmp_path / "bare").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "folder" / "manifest.json").mkdir(parents=True)
    os.mkdir(os.fsencode(tmp_path) + b"/n\xff")
    done = run_bytes("models", models_dir=tmp_path)
    assert done.returncode == 0
    assert done.stderr == b""
    lines = done.stdout.decode().splitlines()
    states = {line[:26].strip(): line[26:].split(":")[0] for line in lines if line[0] != " "}
    assert {name: states[name] for name in bad} == dict.fromkeys(bad, "damaged")
    assert [states[name] for name in ("bare", "circle", "folder", "n\N{REPLACEMENT CHARACTER}")] == ["skipped"] * 4
    assert states["whole"] == "converted"


def test_a_conversion_says_what_it_does_and_nothing_of_libraries(small_checkpoint: Path, tmp_path: Path) -> None:
    """With a graph that is traced, which imports and runs the most."""
    done = run("convert", str(small_checkpoint), "--recipe", "fp32", models_dir=tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/models/small-llama\n"
    for line in done.stderr.splitlines():
        assert "small-llama" in line, line
    assert "chat --model small-llama" in done.stderr.splitlines()[-1]


def test_a_quiet_process_says_nothing_of_its_own_accord(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        notes = Notes()
        notes.quiet = quiet
        notes.status(Status("converting", "Converting"))
        notes.note("done")
        assert bool(capsys.readouterr().err) != quiet


def test_quiet_leaves_results_and_errors(call: Call, small_model: Path) -> None:
    flags = ["--model", str(small_model), "--temperature", "0", "--max-new-tokens", "3", "--quiet"]
    done = run("generate", "Once", *flags, models_dir=small_model.parent)
    assert done.stdout.startswith("Once")
    assert done.stderr == ""
    failed = call("generate", "", *flags, models_dir=small_model.parent)
    assert failed.stderr.startswith("error: The prompt is empty")


def test_verbose_says_where_an_error_arises(call: Call, tmp_path: Path) -> None:
    done = call("inspect", "nothing", "--verbose", models_dir=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: There is no model 'nothing'")


def test_a_draft_model_is_named(call: Call, small_model: Path, small_draft: Path) -> None:
    flags = ["--model", str(small_model), "--draft", str(small_draft)]
    done = call("bench", *flags, "--rounds", "1", "--json", models_dir=small_model.parent)
    result = json.loads(done.stdout)
    assert result["draft"] == read_manifest(small_draft).title
    assert 0 <= result["accepted_tokens"] <= result["drafted_tokens"]
    refused = call("generate", "A", *flags[:3], "gpt-5", models_dir=small_model.parent)
    assert (refused.returncode, refused.stderr[:30]) == (1, "error: There is no model 'gpt-5'"[:30])
    inspected = call("inspect", str(small_model), models_dir=small_model.parent)
    assert "  draft        none of its own; --draft names one" in inspected.stdout


def test_inspect_says_what_a_model_is_and_whether_it_is_whole(call: Call, small_model: Path, tmp_path: Path) -> None:
    whole = run("inspect", str(small_model), models_dir=small_model.parent)
    for words in ("2 layers of 64", "4 heads and 2 for keys", "fp32 for xnnpack", "embedding 0.1 MB", "256 tokens in"):
        assert words in whole.stdout
    assert whole.stdout.rstrip().endswith("whole")
    as_json = call("inspect", small_model.name, "--json", models_dir=small_model.parent)
    assert json.loads(as_json.stdout)["problems"] == []
    damaged = Path(shutil.copytree(small_model, tmp_path / "model"))
    with (damaged / "model.pte").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"x")
    found = call("inspect", str(damaged), models_dir=tmp_path)
    assert found.returncode == 1
    assert "model.pte was changed" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "x", "--model", "nothing"], "There is no model 'nothing'"),
        (["generate", "", "--model", "{model}"], "The prompt is empty"),
        (["generate", "x", "--model", "{model}", "--backend", "qnn"], "Qualcomm"),
        (["perplexity", "/nowhere.txt", "--model", "{model}"], "cannot be read"),
        (["convert", "/nowhere.gguf"], "nowhere.gguf"),
        (["inspect", "nothing"], "There is no model 'nothing'"),
    ],
)
def test_errors_are_sentences_on_stderr(call: Call, small_model: Path, arguments: list[str], words: str) -> None:
    filled = [argument.format(model=small_model) if "{model}" in argument else argument for argument in arguments]
    done = call(*filled, models_dir=small_model.parent)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "x", "--top-p", "3"], "top_p"),
        (["generate", "x", "--top-q", "3"], "--top-q"),
        (["generate", "x", "--constraint", "{"], "not JSON"),
        (["generate", "x", "--threads", "0"], "--threads"),
        (["chat", "--backend", "gpu"], "--backend"),
        (["serve", "--port", "0"], "--port"),
        (["perplexity", __file__, "--window", "1"], "at least 2"),
        (["perplexity", __file__, "--max-windows", "many"], "--max-windows"),
        (["batch", "requests.jsonl"], "output"),
        (["sing"], "sing"),
        ([], "COMMAND"),
    ],
)
def test_arguments_that_are_wrong_have_a_code_of_their_own(
    call: Call, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = call(*arguments, models_dir=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert not done.stdout
    as_json = call(*arguments, "--json", models_dir=tmp_path)
    assert as_json.returncode == 2
    assert words in json.loads(as_json.stderr)["error"]["message"]


def test_variables_stand_for_the_flags_of_every_command(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setenv("FALCON_THREADS", "none")
    for arguments in (["generate", "x"], ["chat"], ["serve"], ["bench"], ["perplexity", str(tmp_path / "text.txt")]):
        done = call(*arguments, models_dir=tmp_path)
        assert done.returncode == 2
        assert "FALCON_THREADS" in done.stderr
