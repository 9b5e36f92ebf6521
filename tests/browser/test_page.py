"""The page as its visitors use it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.served_app import serve

from .conftest import OpenPage

QUESTION = "What is the capital of France?"
EXAMPLE = "What is the capital city of Japan?"


def open_tab(page: Page, name: str) -> Locator:
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel")


def state(page: Page) -> Locator:
    """What the statistics line of the open tab says is going on."""
    return page.get_by_role("tabpanel").get_by_role("status")


def press(page: Page, name: str) -> None:
    page.get_by_role("tabpanel").get_by_role("button", name=name, exact=True).click()


def set_sampling(page: Page, name: str, value: float) -> None:
    field = page.get_by_label(f"number input for {name}")
    field.fill(str(value))
    field.blur()


def message_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message", exact=True)


def send(page: Page, message: str) -> None:
    message_box(page).fill(message)
    page.wait_for_timeout(
        200
    )  # Nobody presses Enter in the instant of pasting; then the page could still be redrawing.
    page.keyboard.press("Enter")


def question(page: Page) -> Locator:
    return page.locator("#conversation .user-row")


def answer(page: Page) -> Locator:
    return page.locator("#conversation .bot-row")


def text_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Text", exact=True)


def wait_for_more(page: Page, beginning: str) -> str:
    """The text of the Generate tab once it is longer than `beginning`."""
    page.wait_for_function(
        "n => document.querySelector('#generate-text textarea').value.length > n", arg=len(beginning)
    )
    return text_box(page).input_value()


def test_generate_continues_in_place(page: Page) -> None:
    set_sampling(page, "Max new tokens", 16)
    text_box(page).fill("Once upon a time")
    press(page, "Generate")
    expect(state(page)).to_have_text("Stopped at the length limit")
    first = text_box(page).input_value()
    assert first.startswith("Once upon a time")
    assert len(first) > len("Once upon a time")
    expect(page.get_by_role("tabpanel")).to_contain_text(re.compile(r"Read \d+ tokens.*Wrote 16 at .* tok/s"))

    edited = first + " But then"
    text_box(page).fill(edited)
    press(page, "Continue")
    assert wait_for_more(page, edited).startswith(edited)
    expect(state(page)).to_have_text("Stopped at the length limit")

    press(page, "Undo")
    expect(text_box(page)).to_have_value(edited)
    press(page, "Undo")
    expect(text_box(page)).to_have_value("Once upon a time")
    press(page, "Generate")
    expect(text_box(page)).not_to_have_value("Once upon a time")
    press(page, "Clear")
    expect(text_box(page)).to_have_value("")


def test_stop_stops(page: Page) -> None:
    set_sampling(page, "Max new tokens", 1600)
    set_sampling(page, "Temperature", 0)
    counting = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,"
    text_box(page).fill(counting)
    press(page, "Generate")
    wait_for_more(page, counting)
    expect(state(page)).to_have_text("Writing")
    press(page, "Stop")
    expect(state(page)).to_have_text("Stopped")
    stopped = text_box(page).input_value()
    page.wait_for_timeout(1500)
    assert text_box(page).input_value() == stopped

    open_tab(page, "Chat")
    set_sampling(page, "Max new tokens", 32)
    send(page, QUESTION)
    expect(answer(page)).to_contain_text("Paris")


def test_one_visitors_stop_leaves_the_others_alone(open_page: OpenPage) -> None:
    pages = [open_page(), open_page()]
    for page in pages:
        set_sampling(page, "Max new tokens", 60)
        set_sampling(page, "Temperature", 0)
        text_box(page).fill("1, 2, 3, 4, 5, 6, 7, 8, 9, 10,")
    for page in pages:
        press(page, "Generate")
    press(pages[1], "Stop")
    expect(state(pages[1])).to_have_text("Stopped")
    expect(state(pages[0])).to_have_text("Stopped at the length limit")


def test_chat(page: Page) -> None:
    open_tab(page, "Chat")
    set_sampling(page, "Temperature", 0)
    set_sampling(page, "Max new tokens", 32)
    send(page, QUESTION)
    expect(question(page)).to_have_text(QUESTION)
    expect(message_box(page)).to_have_value("")
    expect(answer(page)).to_contain_text("Paris")
    expect(state(page)).to_have_text(re.compile("Finished|Stopped at the length limit"))

    send(page, "And the capital of Italy?")
    expect(question(page)).to_have_count(2)
    expect(answer(page)).to_have_count(2)
    expect(answer(page).last).to_contain_text("Rome")
    expect(page.get_by_role("button", name="Send")).to_be_visible()

    press(page, "Retry")
    expect(answer(page).last).to_contain_text("Rome")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(question(page)).to_have_count(2)

    press(page, "Undo")
    expect(question(page)).to_have_count(1)
    expect(message_box(page)).to_have_value("And the capital of Italy?")
    press(page, "Clear")
    expect(question(page)).to_have_count(0)


def test_chat_example_and_system_prompt(page: Page) -> None:
    panel = open_tab(page, "Chat")
    set_sampling(page, "Temperature", 0)
    set_sampling(page, "Max new tokens", 32)
    panel.get_by_role("button", name="System prompt").click()
    page.get_by_label("System prompt").fill("You are a helpful assistant.")
    panel.get_by_role("button", name=EXAMPLE).click()
    expect(answer(page)).to_contain_text("Tokyo")


def test_instruct(page: Page) -> None:
    panel = open_tab(page, "Instruct")
    set_sampling(page, "Temperature", 0)
    press(page, "Summarise")
    expect(page.get_by_label("Instruction")).to_have_value(re.compile("^Summarise"))
    page.get_by_label("Instruction").fill(QUESTION)
    page.get_by_label("Context (optional)").fill("")
    press(page, "Run")
    expect(page.locator("#instruct-answer")).to_contain_text("Paris")
    expect(state(page)).to_have_text(re.compile("Finished|Stopped at the length limit"))
    expect(panel.get_by_role("button", name="Run")).to_be_visible()


def test_errors_are_said_in_place(page: Page) -> None:
    page.get_by_role("button", name="More").click()
    press(page, "Generate")
    expect(state(page)).to_contain_text("empty")

    too_long = "falcon " * 4000
    text_box(page).fill(too_long)
    press(page, "Generate")
    expect(state(page)).to_contain_text("tokens")
    expect(text_box(page)).to_have_value(too_long)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)

    open_tab(page, "Chat")
    send(page, too_long)
    expect(state(page)).to_contain_text("tokens")
    press(page, "Undo")
    expect(message_box(page)).to_have_value(too_long)

    page.get_by_label("Seed").fill("lucky")
    message_box(page).fill(QUESTION)
    press(page, "Send")
    expect(state(page)).to_contain_text("seed")
    expect(page.locator(".toast-wrap")).to_have_text("")


def test_request_waits_for_the_model(open_page: OpenPage, starter_models_dir: Path, tmp_path: Path) -> None:
    with serve(starter_models_dir, tmp_path / "log") as app:
        engine = app.worker()
        engine.suspend()
        page = open_page(app.url, "Loading")
        open_tab(page, "Chat")
        set_sampling(page, "Temperature", 0)
        send(page, QUESTION)
        expect(state(page)).to_contain_text("Waiting for the model")
        press(page, "Stop")
        expect(state(page)).to_have_text("Stopped")
        press(page, "Retry")
        expect(state(page)).to_contain_text("Waiting for the model")
        engine.resume()
        expect(answer(page)).to_contain_text("Paris")
        expect(page.locator("#header").get_by_role("status")).to_have_text("Ready")
        page.close()


def test_model_that_cannot_be_had(open_page: OpenPage, tmp_path: Path) -> None:
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    with serve(tmp_path / "models", tmp_path / "log", **nowhere) as app:
        page = open_page(app.url, "Failed")
        expect(page.locator("#header")).to_contain_text("pip could not download")
        open_tab(page, "Chat")
        send(page, QUESTION)
        expect(state(page)).to_contain_text("pip could not download")
        expect(question(page)).to_have_text(QUESTION)
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_the_screen(open_page: OpenPage, screenshot: Callable[[Page, str], None], width: int, scheme: str) -> None:
    page = open_page(width=width, scheme=scheme)
    set_sampling(page, "Temperature", 0)
    set_sampling(page, "Max new tokens", 64)
    for tab, begin, run in (
        ("Generate", "A story", "Generate"),
        ("Chat", EXAMPLE, None),
        ("Instruct", "Summarise", "Run"),
    ):
        panel = open_tab(page, tab)
        screenshot(page, f"{tab.lower()}-{scheme}-{width}-empty")
        panel.get_by_role("button", name=begin).click()
        if run:
            press(page, run)
        expect(state(page)).to_have_text(re.compile("Finished|Stopped at the length limit"))
        expect(panel.get_by_role("button", name="Clear")).to_be_enabled()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        screenshot(page, f"{tab.lower()}-{scheme}-{width}")
