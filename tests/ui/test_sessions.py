"""Sessions end: what Gradio keeps of them, on an app that nobody serves."""

from functools import partial

import gradio as gr
import pytest
from gradio.routes import App

from tests.awaited import awaited
from ui import sessions
from ui.sessions import Sessions


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sessions, "time", clock)
    return clock


@pytest.fixture
def app() -> App:
    with gr.Blocks() as demo:
        gr.State([1])
        gr.Textbox("shown")
    return App.create_app(demo)


def sweep(kept: Sessions) -> None:
    awaited(partial(kept.sweep, unread_s=15))


def test_a_session_is_light(app: App) -> None:
    Sessions(app)
    state = app.state_holder["a"]
    (number,) = (key for key, block in app.get_blocks().blocks.items() if isinstance(block, gr.State))
    state[number] = [1, 2]
    assert state[number] == [1, 2]
    assert list(state.components) == []


def test_a_page_that_was_left_is_forgotten_in_time(app: App, clock: Clock) -> None:
    kept = Sessions(app)
    with kept.page("a"), kept.page("a"):
        app.state_holder["a"]
        clock.now = 10 * sessions.LEFT_S
        sweep(kept)
        assert "a" in app.state_holder, "it is open"
    clock.now += sessions.LEFT_S - 1
    sweep(kept)
    assert "a" in app.state_holder, "it may come back"
    assert kept.is_page("a"), "it has come back, without its connection"
    clock.now += sessions.LEFT_S - 1
    sweep(kept)
    assert "a" in app.state_holder
    clock.now += 2
    sweep(kept)
    assert "a" not in app.state_holder
    assert kept.is_page("a"), "with an empty state"
    assert not kept.is_page("b")


def test_of_many_that_were_left_the_latest_are_kept(app: App, clock: Clock) -> None:
    kept = Sessions(app)
    for number in range(sessions.LEFT + 20):
        with kept.page(str(number)):
            app.state_holder[str(number)]
    sweep(kept)
    assert len(app.state_holder.session_data) == sessions.LEFT
    assert "0" not in app.state_holder
    assert str(sessions.LEFT + 19) in app.state_holder


def test_names_of_pages_are_not_kept_without_end(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PAGES", 3)
    kept = Sessions(app)
    for name in "abcd":
        with kept.page(name):
            pass
    assert [name for name in "abcd" if kept.is_page(name)] == ["b", "c", "d"]
