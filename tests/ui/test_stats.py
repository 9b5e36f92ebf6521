"""What the line under an answer says and offers."""

import pytest

from falcon_runtime.chunk import FinishReason, Stats
from ui import stats
from ui.update import Update


def ended(reason: FinishReason | None, prompt: int = 10, generated: int = 20, context: int = 100) -> Update:
    figures = Stats(prompt_tokens=prompt, prefilled_tokens=prompt, generated_tokens=generated, context=context)
    return Update("text", figures, reason)


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("stop", "done", "Finished"),
        ("length", "paused", "Stopped at the length limit"),
        ("repetition", "paused", "Stopped: it was repeating itself"),
        ("cancelled", "done", "Stopped"),
    ],
)
def test_how_a_run_ended(reason: FinishReason, kind: str, words: str) -> None:
    line = stats.line(ended(reason))
    assert f'<div class="line {kind}">' in line
    assert f'role="status">{words}</span>' in line
    assert ("continue-run" in line) == (kind == "paused")
    assert ("Creative preset" in line) == (reason == "repetition")


def test_a_full_context_offers_nothing_more() -> None:
    line = stats.line(ended("length", generated=90))
    assert "the model's context is full" in line.replace("&#x27;", "'")
    assert "line paused" in line
    assert "continue-run" not in line
    assert not stats.can_go_on(ended("repetition", generated=90))


def test_what_failed_or_goes_on_has_no_continue() -> None:
    assert "continue-run" not in stats.line(ended(None))
    assert "continue-run" not in stats.line(Update(error="It broke <b>."))
    assert "continue-run" in stats.line(Update("text", error="It broke.")), "what was written can be gone on with"
    assert "&lt;b&gt;" in stats.line(Update(error="It broke <b>."))
