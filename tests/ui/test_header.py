"""What the top of the page says of the models."""

from types import SimpleNamespace
from typing import Any

import pytest

from falcon_runtime.models.catalog import CATALOG, STARTER
from falcon_runtime.status import Status
from ui import header

FALCON = CATALOG["falcon3-3b-instruct"]
READY = Status("ready")
COMING = Status("downloading", "Downloading Falcon3-3B-Instruct (6.5 GB),", 0.4, 720)


def runtime(entry: Any, status: Status) -> Any:
    return SimpleNamespace(name=entry.name, title=entry.title, status=status, description="", restarted_at=None)


def said(current: Any, coming: Any = None, recommended: str | None = FALCON.name) -> str:
    """The header's notice, without its tags."""
    fleet: Any = SimpleNamespace(current=current, preparing=coming, answering=0)
    html = header.render(fleet, recommended)
    return html.partition('<div class="notice"><p>')[2].partition("</p>")[0]


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
        f"Now: SmolLM2-135M-Instruct, a small starter. Falcon3-3B-Instruct {doing}: the largest that answers at "
        "reading speed on this machine."
    )
    assert said(runtime(STARTER, READY), runtime(FALCON, status), None).endswith(f"Falcon3-3B-Instruct {doing}.")
    assert said(runtime(FALCON, READY), runtime(STARTER, status)).startswith("Now: Falcon3-3B-Instruct. SmolLM2")


def test_nothing_is_said_when_there_is_nothing_to_say() -> None:
    assert said(runtime(STARTER, READY)) == ""
    assert said(runtime(FALCON, READY)) == ""


def test_what_answers_comes_first() -> None:
    loading = runtime(STARTER, Status("loading"))
    assert said(loading) == said(loading, runtime(FALCON, COMING)) == header.PATIENCE
    broken = runtime(STARTER, Status("failed", "It is <broken>."))
    assert said(broken, runtime(FALCON, COMING)) == "It is &lt;broken&gt;."
