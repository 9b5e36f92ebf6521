"""Which model may draft for which, and what is said of one that cannot."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from falcon_runtime.errors import DraftUnusable, ModelDamaged, UnknownModel
from falcon_runtime.models import choosing, drafts
from falcon_runtime.models.catalog import CATALOG, STARTER
from falcon_runtime.models.drafts import AUTO, NONE, DraftWish, default_draft, named_draft
from falcon_runtime.models.library import Model
from falcon_runtime.models.manifest import PROGRAM, read_manifest

FALCON = "falcon3-1b-instruct"


@pytest.fixture
def draft(small_draft: Path, tmp_path: Path) -> Path:
    """A copy of the draft model, to be changed."""
    return shutil.copytree(small_draft, tmp_path / "draft")


def changed(folder: Path, **values: object) -> None:
    """Changes the manifest in `folder`."""
    read_manifest(folder).model_copy(update=values).save(folder)


def wish(model: Path, draft: str, automatic: str | None = None, required: bool = True) -> DraftWish:
    """That `draft` drafts for the converted `model`, for which the catalogue has the draft model `automatic`."""
    entry = replace(STARTER, draft=automatic)
    return DraftWish(draft, Model(model.name, model, entry), model.parent, required)


def folder_of(wish: DraftWish) -> Path | None:
    found = wish.find()
    return found.folder if found else None


def test_the_larger_falcons_have_the_smallest_one() -> None:
    assert {entry.draft for name, entry in CATALOG.items() if name.startswith("falcon3")} == {None, FALCON}
    assert CATALOG[FALCON].draft is None
    for entry in CATALOG.values():
        if entry.draft:
            assert CATALOG[entry.draft].architecture.vocabulary == entry.architecture.vocabulary
            assert CATALOG[entry.draft].parameters < entry.parameters
    assert CATALOG["falcon3-7b-instruct"].with_recipe("int8").draft == FALCON


def test_the_variable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FALCON_DRAFT", raising=False)
    assert default_draft() == AUTO
    monkeypatch.setenv("FALCON_DRAFT", NONE)
    assert default_draft() == NONE


def test_the_one_that_is_named_drafts(small_model: Path, small_draft: Path) -> None:
    assert folder_of(wish(small_model, str(small_draft))) == small_draft
    assert folder_of(wish(small_model, NONE, str(small_draft))) is None


def test_automatically_only_what_is_converted_and_fits_drafts(
    small_model: Path, small_draft: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder_of(wish(small_model, AUTO, str(small_draft))) == small_draft
    assert folder_of(wish(small_model, AUTO)) is None
    assert folder_of(wish(small_model, AUTO, FALCON)) is None, "nothing is downloaded unasked"
    both = read_manifest(small_model).memory_bytes + read_manifest(small_draft).draft_bytes
    monkeypatch.setattr(drafts, "available_memory", lambda: both)
    assert folder_of(wish(small_model, AUTO, str(small_draft))) == small_draft
    monkeypatch.setattr(drafts, "available_memory", lambda: both - 1)
    for not_binding in (wish(small_model, AUTO, str(small_draft)), wish(small_model, str(small_draft), required=False)):
        assert not not_binding.binding
        with pytest.raises(DraftUnusable, match=r"together they need \d\.\d GB of memory.*End other programs"):
            not_binding.find()
    binding = wish(small_model, str(small_draft))
    assert binding.binding
    assert folder_of(binding) == small_draft, "the owner decides"


def test_other_tokens_cannot_draft(small_model: Path, draft: Path) -> None:
    changed(draft, tokenizer_sha256="0" * 64)
    assert folder_of(wish(small_model, str(draft))) == draft, "only ids and texts of the tokens count"
    tokenizer = json.loads((draft / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (draft / "tokenizer.json").write_text(json.dumps(tokenizer))
    for sha256 in ("0" * 64, None):
        changed(draft, tokenizer_sha256=sha256)
        with pytest.raises(DraftUnusable, match=r"another tokenizer\. Choose a smaller model of the same family"):
            wish(small_model, str(draft)).find()
    (draft / "tokenizer.json").write_text("{}")
    with pytest.raises(DraftUnusable, match=r"tokenizer.json has no vocabulary"):
        wish(small_model, str(draft)).find()


def test_another_vocabulary_cannot_draft(small_model: Path, starter_models_dir: Path) -> None:
    starter = starter_models_dir / STARTER.name
    with pytest.raises(DraftUnusable, match=r"cannot draft for .*: it has a vocabulary of 49,152 tokens, not 320"):
        wish(small_model, str(starter)).find()


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    "damage", [lambda folder: (folder / PROGRAM).unlink(), lambda folder: flip(folder / PROGRAM)], ids=["gone", "bit"]
)
def test_a_damaged_one_is_said_to_be(small_model: Path, draft: Path, damage: Damage) -> None:
    damage(draft)
    for name, automatic in ((str(draft), None), (AUTO, str(draft))):
        with pytest.raises(ModelDamaged, match="Convert the model again"):
            wish(small_model, name, automatic).find()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_names_that_name_no_draft_model(small_model: Path) -> None:
    with pytest.raises(DraftUnusable, match=f"not converted yet. Convert it first: .* convert {FALCON}"):
        named_draft(FALCON, small_model.parent)
    with pytest.raises(UnknownModel, match="There is no model 'gpt-5'"):
        named_draft("gpt-5", small_model.parent)


def test_a_server_knows_before_it_begins(
    small_model: Path, small_draft: Path, starter_models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(model: str | None, draft: str) -> str:
        return choosing.plan(model, starter_models_dir, False, False, draft).first

    assert planned(str(small_model), str(small_draft)) == str(small_model)
    assert planned(None, str(small_draft)) == STARTER.name, "it may be meant for what is chosen later"
    with pytest.raises(DraftUnusable, match="cannot draft for"):
        planned(STARTER.name, str(small_draft))
    with pytest.raises(UnknownModel):
        planned(None, "gpt-5")
    # What is named takes its memory from the models that are recommended.
    largest = list(CATALOG.values())[-1]
    memory = STARTER.memory_bytes + largest.memory_bytes
    monkeypatch.setattr(choosing, "available_memory", lambda: memory)
    monkeypatch.setattr(choosing, "_free_disk", lambda folder: 10**15)
    monkeypatch.setattr(choosing, "memory_bandwidth", lambda: 10.0**12)
    for draft, name in ((NONE, largest.name), (str(small_draft), list(CATALOG)[-2])):
        found = choosing.plan(None, starter_models_dir, False, False, draft).recommended
        assert found
        assert found.name == name
