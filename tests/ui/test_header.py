"""What the top of the page says of the models."""

from types import SimpleNamespace
from typing import Any

import pytest

from falcon_runtime.models.catalog import CATALOG, STARTER
from falcon_runtime.status import Status
from ui import header, words

FALCON = CATALOG["falcon3-3b-instruct"]
READY = Status("ready")
COMING = Status("downloading", "Downloading Falcon3-3B-Instruct (6.5 GB),", 0.4, 720)


def runtime(entry: Any, status: Status) -> Any:
    facts = {"name": entry.name, "title": entry.title, "manifest": entry}
    return SimpleNamespace(**facts, status=status, recipe="int4", context=None, restarted_at=None)


def said(current: Any, coming: Any = None, recommended: str | None = FALCON.name, answering: int = 0) -> str:
    """The sentence, without its tags."""
    fleet: Any = SimpleNamespace(current=current, preparing=coming, answering=answering)
    return header.sentence(fleet, recommended).partition("<p>")[2].partition("</p>")[0]


@pytest.mark.parametrize(
    ("status", "doing"),
    [
        (COMING, "is being downloaded, 40%, about 12 min left"),
        (Status("converting", "Preparing a graph,", None, 30), "is being converted, about 30 s left"),
        (Status("loading", "Loading"), "is being loaded"),
        (Status(), "is being prepared"),
    ],
)
def test_what_answers_what_comes_and_why_is_one_sentence(status: Status, doing: str) -> None:
    sentence = said(runtime(STARTER, READY), runtime(FALCON, status))
    assert sentence == (
        "Now: SmolLM2-135M-Instruct, a 135-million-parameter starter on this machine&#x27;s processor. "
        f"Falcon3-3B-Instruct {doing}: the largest that answers at reading speed on this machine."
    )
    assert said(runtime(STARTER, READY), runtime(FALCON, status), None).endswith(f"Falcon3-3B-Instruct {doing}.")
    assert said(runtime(FALCON, READY), runtime(STARTER, status)).startswith("Now: Falcon3-3B-Instruct, a 3.2-billion-")


def test_it_is_always_true() -> None:
    assert said(runtime(STARTER, READY)).endswith("starter on this machine&#x27;s processor.")
    assert said(runtime(STARTER, READY), answering=2).endswith('<span class="answering">2 being answered now.</span>')
    theirs = SimpleNamespace(name="theirs", title="Theirs")
    assert said(runtime(theirs, READY)) == "Now: Theirs."


def test_who_reads_another_language_is_told_what_the_model_was_made_for() -> None:
    with words.speaking("fr"):
        assert said(runtime(STARTER, READY)).endswith("Il a été entraîné surtout en anglais.")
        assert "entraîné" not in said(runtime(FALCON, READY))
    with words.speaking("de"):
        assert "Englisch, Französisch, Spanisch und Portugiesisch" in said(runtime(FALCON, READY))


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (Status(), "Starting"),
        (Status("downloading", "Downloading the wheel", 0.4, 60), "Downloading 40%, about 60 s left"),
        (Status("converting", "Loading libraries", 0.0), "Converting"),
        (Status("ready", "Ready"), "Ready"),
        (Status("failed", "It is broken."), "Failed"),
    ],
)
def test_the_state_says_what_is_done(status: Status, shown: str) -> None:
    assert header.bar(runtime(STARTER, status)).endswith(f'role="status">{shown}</span>')


def test_what_answers_comes_first() -> None:
    loading = runtime(STARTER, Status("loading"))
    patience = "The model is being prepared, once. You can ask now; the answer comes as soon as it is ready."
    assert said(loading) == said(loading, runtime(FALCON, COMING)) == patience
    broken = runtime(STARTER, Status("failed", "It is <broken>."))
    assert said(broken, runtime(FALCON, COMING)) == "It is &lt;broken&gt;."
