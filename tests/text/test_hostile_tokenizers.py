"""Tokenizers of converted models that somebody has made, or that have come to harm, are refused with a reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from falcon_runtime.errors import TokenizerError
from falcon_runtime.models import tokenizer_files
from falcon_runtime.text.encoder import Encoder
from falcon_runtime.text.tokenizer import load_tokenizer

from ..hostile import BAD_JSON, bounded, harmed, named, put
from ..small_models import small_tokenizer

FILES = ["tokenizer.json", "tokenizer_config.json"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers") / "tokenizer"
    small_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def manifest(**changes: Any) -> Any:
    """What of a manifest concerns the tokenizer."""
    return SimpleNamespace(**{"tokenizer_sha256": None, "tokenizer_size": 260, "vocabulary": 320} | changes)


def load(folder: Path, **changes: Any) -> Encoder:
    return Encoder(load_tokenizer(folder, manifest(**changes)))


def test_the_tokenizer_itself_is_loaded(folder: Path) -> None:
    with bounded():
        assert load(folder, tokenizer_sha256=tokenizer_files.sha256(folder))("ab")


@pytest.mark.parametrize("make", BAD_JSON, ids=named)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_json_is_refused(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    put(folder / name, make)
    with pytest.raises(TokenizerError), bounded():
        load(folder)


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "chat_template.jinja"])
@pytest.mark.parametrize("make", [make for make in BAD_JSON if make.__name__ not in ("circle", "nowhere")], ids=named)
def test_other_files_that_are_none_are_refused_or_do_no_harm(
    folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    put(folder / name, make)
    try:
        with bounded():
            load(folder)
    except TokenizerError:
        assert not name.endswith(".jinja") or make.__name__ not in ("empty", "a_list", "nothing")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tokenizer_size": 259}, "has 260 tokens, the model's has 259"),
        ({"tokenizer_size": 10**9}, "1,000,000,000"),
        ({"vocabulary": 259}, "token 259"),
        ({"tokenizer_sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_a_tokenizer_of_another_model(folder: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokenizerError, match=reason), bounded():
        load(folder, **changes)


def test_every_file_counts_for_the_hash(folder: Path) -> None:
    hashes = {tokenizer_files.sha256(folder)}
    for name in [*FILES, "chat_template.jinja"]:
        (folder / name).write_text((folder / name).read_text() + " ")
        hashes.add(tokenizer_files.sha256(folder))
    for name in (
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer.model",
        "additional_chat_templates/x.jinja",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
        hashes.add(tokenizer_files.sha256(folder))
    assert len(hashes) == 8
    (folder / "model.pte").write_text("something else")
    assert tokenizer_files.sha256(folder) in hashes


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes(original: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = Path(shutil.copytree(original, tmp_path / "model", dirs_exist_ok=True))
    name = data.draw(st.sampled_from(FILES))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(data.draw(harmed(content, within=600) | harmed(content)))
    try:
        with bounded():
            load(folder)("ab <|end|> \x00é")
    except TokenizerError:
        pass
    if (folder / name).read_bytes() != content:
        with pytest.raises(TokenizerError):
            load(folder, tokenizer_sha256=tokenizer_files.sha256(original))


@given(
    name=st.sampled_from(["eos_token", "bos_token", "added_tokens_decoder", "model_max_length", "chat_template", "x"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(256),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("256"), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_settings(original: Path, tmp_path: Path, name: str, value: object) -> None:
    folder = Path(shutil.copytree(original, tmp_path / "model", dirs_exist_ok=True))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    try:
        with bounded():
            encoder = load(folder)
            assert encoder("a")
            assert isinstance(encoder.chat_template, str)
    except TokenizerError:
        pass
