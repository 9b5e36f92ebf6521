"""What the line under an answer says and offers."""

from dataclasses import replace

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


def test_the_line_says_what_was_left_out_and_which_limit_ended_an_answer() -> None:
    figures = Stats(prompt_tokens=200, prefilled_tokens=200, generated_tokens=56, context=256, dropped_messages=4)
    full = stats.line(Update(stats=figures, finish_reason="length"))
    assert "the 4 oldest messages were left out" in full
    assert "context is full" in full
    short = stats.line(Update(stats=replace(figures, generated_tokens=8, dropped_messages=1), finish_reason="length"))
    assert "the 1 oldest message was left out" in short
    assert "Stopped at the length limit" in short
    assert "left out" not in stats.line(Update(stats=replace(figures, dropped_messages=0)))


def test_the_line_says_how_many_drafted_tokens_were_accepted() -> None:
    figures = Stats(prompt_tokens=20, prefilled_tokens=20, generated_tokens=56, drafted_tokens=52, accepted_tokens=34)
    assert "Drafted <b>52</b>, accepted <b>34</b>" in stats.line(Update(stats=figures))
    assert "Drafted" not in stats.line(Update(stats=replace(figures, drafted_tokens=0, accepted_tokens=0)))
    by_both = replace(figures, draft_model="<Small>", drafted_by_model=40, accepted_by_model=30)
    line = stats.line(Update(stats=by_both))
    assert "Drafted <b>12</b>, accepted <b>4</b>" in line
    assert "&lt;Small&gt; drafted <b>40</b>, accepted <b>30</b>" in line
