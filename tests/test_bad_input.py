"""Bad input: each kind its own typed error, whose message says what is wrong and what to do."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.errors import (
    BackendUnavailable,
    EngineDied,
    FalconError,
    InvalidRequest,
    ModelDamaged,
    PromptTooLong,
    TokenizerError,
    UnknownModel,
)
from falcon_runtime.models import qnn, tokenizer_files
from falcon_runtime.models.manifest import CONVERTER_VERSION, MANIFEST, PROGRAM
from falcon_runtime.system.checksum import sha256_of


@pytest.fixture
def model(small_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(small_model, tmp_path / "model"))


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be written, which does no harm."""
    monkeypatch.setattr("falcon_runtime.system.checksum.user_cache", lambda: Path("/dev/null"))


@pytest.fixture(scope="module")
def runtime(small_model: Path) -> Iterator[FalconRuntime]:
    with FalconRuntime(str(small_model)) as runtime:
        yield runtime


def set_in_manifest(model: Path, **values: object) -> None:
    manifest = json.loads((model / MANIFEST).read_text())
    (model / MANIFEST).write_text(json.dumps(manifest | values))


def fails(model: Path, error: type[FalconError], words: str) -> None:
    """Loading fails with `error`, in the exception and in the status alike."""
    with FalconRuntime(str(model)) as runtime:
        with pytest.raises(error, match=words) as caught:
            runtime.load()
        assert runtime.status.state == "failed"
        assert runtime.status.message == str(caught.value)


def test_unknown_model(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"no model 'gpt-5'.*smollm2-135m-instruct"):
        FalconRuntime("gpt-5", tmp_path)


def test_folder_that_is_no_model(tmp_path: Path) -> None:
    fails(tmp_path, ModelDamaged, "no manifest.json.*falcon_runtime convert")


def test_missing_program(model: Path) -> None:
    (model / PROGRAM).unlink()
    fails(model, ModelDamaged, "model.pte is missing.*Convert")


def test_truncated_program(model: Path) -> None:
    content = (model / PROGRAM).read_bytes()
    (model / PROGRAM).write_bytes(content[: len(content) // 2])
    fails(model, ModelDamaged, "truncated.*Convert")


def test_program_that_is_no_program(model: Path) -> None:
    (model / PROGRAM).write_bytes(bytes((model / PROGRAM).stat().st_size))
    set_in_manifest(model, program_sha256=sha256_of(model / PROGRAM))
    fails(model, ModelDamaged, "cannot load.*Convert")


def flip_a_bit(path: Path) -> None:
    """Though the file's size and its time of modification stay what they were."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_single_bit_of_the_weights_is_noticed(model: Path) -> None:
    """When the model was loaded before, too, and when its engine comes back after it died."""
    with FalconRuntime(str(model)) as runtime:
        runtime.load()
        flip_a_bit(model / PROGRAM)
        assert runtime.engine_pid
        os.kill(runtime.engine_pid, signal.SIGKILL)
        with pytest.raises((ModelDamaged, EngineDied)):
            list(runtime.generate("x"))
        with pytest.raises(ModelDamaged, match=r"model.pte is damaged.*Convert"):
            list(runtime.generate("x"))


def test_a_model_that_is_converted_again_loads_in_the_same_runtime(
    small_model: Path, model: Path, no_cache: None
) -> None:
    with (model / PROGRAM).open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(bytes(100))
    with FalconRuntime(str(model)) as runtime:
        for _ in range(2):
            with pytest.raises(ModelDamaged, match="is damaged"):
                runtime.generate("x")
        shutil.copy(small_model / PROGRAM, model / PROGRAM)
        assert list(runtime.generate("x", SamplingParams(max_new_tokens=1)))
        assert runtime.status.state == "ready"


def test_program_of_another_architecture(model: Path) -> None:
    set_in_manifest(model, max_rows=32)
    fails(model, ModelDamaged, "not the program that the manifest describes")


def test_program_with_smaller_caches(model: Path, small_model_slots: Path) -> None:
    shutil.copy(small_model_slots / PROGRAM, model / PROGRAM)
    program = model / PROGRAM
    set_in_manifest(model, program_bytes=program.stat().st_size, program_sha256=sha256_of(program))
    fails(model, ModelDamaged, "cannot load")


def test_a_model_of_an_earlier_converter(model: Path) -> None:
    set_in_manifest(model, converter=CONVERTER_VERSION - 1)
    fails(model, ModelDamaged, "converted by an earlier version.*falcon_runtime convert")


def test_manifest_that_cannot_be_read(model: Path) -> None:
    (model / MANIFEST).write_text('{"format": 99}')
    fails(model, ModelDamaged, "cannot be read as a manifest")


def test_missing_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    fails(model, TokenizerError, "has no tokenizer")


def test_damaged_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_text("{")
    fails(model, TokenizerError, "cannot be read")


@pytest.mark.parametrize(
    "file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "added_tokens.json"]
)
def test_a_tokenizer_that_was_changed(model: Path, file: str) -> None:
    """In a way that its size does not tell."""
    text = (model / file).read_text() if (model / file).exists() else "{}"
    (model / file).write_text(text + " ")
    fails(model, TokenizerError, "belongs to another model, or was changed.*convert the model again")


def test_tokenizers_of_models_of_an_earlier_version_are_known_by_their_size(model: Path) -> None:
    set_in_manifest(model, tokenizer_sha256=None)
    (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text() + " ")
    with FalconRuntime(str(model)) as runtime:
        runtime.load()
    set_in_manifest(model, tokenizer_size=131_072)
    fails(model, TokenizerError, "belongs to another model")


def test_a_tokenizer_with_tokens_that_the_model_does_not_have(model: Path) -> None:
    """As many as it should have, and one of them far away."""
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["a"] = 1_000_000
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    set_in_manifest(model, tokenizer_sha256=tokenizer_files.sha256(model))
    fails(model, TokenizerError, "token 1,000,000")


def test_qnn_without_its_libraries(small_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QNN_SDK_ROOT", raising=False)
    with FalconRuntime(str(small_model), backend="qnn") as runtime, pytest.raises(BackendUnavailable, match="SDK"):
        runtime.load()


def test_qnn_without_a_model_lowered_for_it(small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qnn, "check_running", lambda: None)
    for model, words in ((str(small_model), "lowered for xnnpack"), (None, "no SmolLM2-135M-Instruct lowered for qnn")):
        runtime = FalconRuntime(model, models_dir=tmp_path, backend="qnn")
        with pytest.raises(BackendUnavailable, match=words):
            runtime.load()


def test_unknown_backend(small_model: Path) -> None:
    runtime = FalconRuntime(str(small_model), backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(BackendUnavailable, match="xnnpack, qnn"):
        runtime.load()


def test_prompt_longer_than_the_context(runtime: FalconRuntime) -> None:
    with pytest.raises(PromptTooLong, match=r"256 tokens.*300.*Shorten"):
        runtime.generate("x" * 300)
    # One token less than the context leaves room for one.
    assert list(runtime.generate("x" * 255, SamplingParams(temperature=0)))[-1].stats.generated_tokens == 1


def test_prompt_that_is_not_even_tokenized(runtime: FalconRuntime) -> None:
    for call in (runtime.generate, runtime.instruct):
        with pytest.raises(PromptTooLong, match=r"1,000,001 characters.*Shorten"):
            call("x" * 1_000_001)


@pytest.mark.parametrize(
    "call",
    [
        lambda runtime: runtime.generate(""),
        lambda runtime: runtime.chat([]),
        lambda runtime: runtime.chat([{"role": "user", "content": "  "}]),
        lambda runtime: runtime.instruct(" "),
    ],
)
def test_empty_prompts(runtime: FalconRuntime, call: object) -> None:
    with pytest.raises(InvalidRequest, match="is empty"):
        call(runtime)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "wizard", "content": "x"}, "role"),
        ({"content": "x"}, "role"),
        ("x", "role"),
        ({"role": "user", "content": 7}, "content"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "content"),
    ],
)
def test_messages_of_no_known_form(runtime: FalconRuntime, message: object, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        runtime.chat([message])  # type: ignore[list-item]


def test_a_bias_of_a_token_that_the_model_does_not_have(runtime: FalconRuntime) -> None:
    with pytest.raises(InvalidRequest, match=r"logit_bias: the model has no token 4,000; its tokens are 0 to 319"):
        runtime.generate("x", SamplingParams(logit_bias={3: 1, 4000: -100}))
    *_, last = runtime.generate("x", SamplingParams(max_new_tokens=1, logit_bias={319: -100}))
    assert last.stats.generated_tokens == 1


def test_halves_of_surrogate_pairs_become_replacement_characters(runtime: FalconRuntime) -> None:
    def prompts(text: str) -> list[tuple[int, ...]]:
        params = SamplingParams(temperature=0, max_new_tokens=1)
        messages = [{"role": "system", "content": text}, {"role": "user", "content": [{"type": "text", "text": text}]}]
        calls = (
            runtime.generate(text, params),
            runtime.chat(messages, params),
            runtime.instruct(text, text, text, params),
        )
        assert all(map(list, calls))
        return [call.prompt for call in calls]

    assert prompts("Hi \ud83d") == prompts("Hi \N{REPLACEMENT CHARACTER}")


def test_tokens_that_the_model_does_not_know_cannot_reach_it(runtime: FalconRuntime) -> None:
    with pytest.raises(InvalidRequest):
        runtime.score([1])
    with pytest.raises(InvalidRequest):
        runtime.score(range(300))
    unknown: Any
    for unknown in (10**9, -1, 10**30, 1.0):
        with pytest.raises(InvalidRequest, match="has no token"):
            runtime.score([1, unknown])
