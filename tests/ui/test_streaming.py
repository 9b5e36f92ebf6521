"""Requests that run side by side, and the line that tells how they go."""

import threading
from collections.abc import Iterator
from contextlib import closing

from falcon_runtime.chunk import Stats
from falcon_runtime.errors import InvalidRequest
from ui import stats
from ui.streaming import Updates, together
from ui.update import Update


def writing(*texts: str, error: str = "", gate: threading.Event | None = None) -> Updates:
    for text in texts:
        yield Update(text)
    if gate:
        gate.wait(10)
    if error:
        raise InvalidRequest(error)
    yield Update(texts[-1], finish_reason="stop")


def test_together_gives_the_latest_of_each() -> None:
    *_, last = together([writing("a", "ab"), writing("c"), writing("d", error="No.")])
    assert [update.text for update in last] == ["ab", "c", "d"]
    assert [update.finish_reason for update in last] == ["stop", "stop", None]
    assert last[2].error == "No."


def test_one_that_waits_holds_no_other_up() -> None:
    gate = threading.Event()
    with closing(together([writing("slow", gate=gate), writing("a", "ab", "abc")])) as source:
        seen = next(latest for latest in source if latest[1].finish_reason)
        assert seen[1].text == "abc"
        assert not seen[0].finish_reason
        gate.set()
        *_, last = source
        assert last[0].finish_reason == "stop"


def test_closing_ends_all() -> None:
    ended = [threading.Event(), threading.Event()]

    def endless(number: int) -> Iterator[Update]:
        try:
            while True:
                yield Update("x")
        finally:
            ended[number].set()

    source = together([endless(0), endless(1)])  # type: ignore[list-item]
    next(source)
    source.close()
    assert all(event.wait(10) for event in ended)


def line(**figures: int | float) -> str:
    return stats.line(Update(stats=Stats(**figures)))  # type: ignore[arg-type]


def test_gauge_tells_cached_read_and_written_apart() -> None:
    shown = line(prompt_tokens=300, cached_tokens=100, prefilled_tokens=300, generated_tokens=50, context=1000)
    assert "Context <b>350</b> of 1,000" in shown
    assert "100 cached, 200 read, 50 written" in shown
    for part in ('class="cached" style="width:10.00%"', 'class="read" style="width:20.00%"', "width:5.00%"):
        assert part in shown


def test_reading_says_how_long_it_takes() -> None:
    reading = {"prompt_tokens": 1000, "prefilled_tokens": 400, "context": 2048}
    assert "Reading the prompt 40%, about 6 s left" in line(**reading, prefill_tokens_per_second=100.0)
    assert "Reading the prompt 40%<" in line(**reading, prefill_tokens_per_second=10_000.0)


def test_what_was_left_out_is_said() -> None:
    assert "the 2 oldest messages were left out of this answer" in line(prompt_tokens=9, dropped_messages=2)
    assert "the 1 oldest message was left out" in line(prompt_tokens=9, dropped_messages=1)
    assert "left out" not in line(prompt_tokens=9)
