"""What can be done in the midst of an answer, on a model that is slow and whose answers do not end by themselves."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.served_app import ServedApp, slowed

from .actions import (
    QUESTION,
    answer,
    answer_shortly,
    ask,
    clear,
    disclose,
    fold,
    generate,
    message_box,
    open_settings,
    open_tab,
    over,
    press,
    question,
    regenerate,
    reload,
    reset_sampling,
    send,
    set_sampling,
    state,
    stop_by_escape,
    system_prompt,
    text_box,
    versions,
    wait_for_more,
)
from .chat_actions import notice
from .conftest import OpenPage

BEGINNING = "Once upon a time"
GAP = "(talk => talk.scrollHeight - talk.scrollTop - talk.clientHeight)(document.getElementById('talk'))"
LONGER = "n => document.getElementById('live').innerText.length > n"


@pytest.fixture(scope="module")
def app(endless_app: ServedApp) -> ServedApp:
    return endless_app


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The page of one visit: a new conversation in the tab Chat, and nothing in the tab Generate, which is open."""
    page = shared_page
    open_tab(page, "Chat")
    over(page)
    press(page, "New")
    fold(page, "Save or share")
    expect(question(page)).to_have_count(0)
    expect(versions(page)).to_have_count(0)
    open_tab(page, "Generate")
    clear(page)
    reset_sampling(page)
    return page


@pytest.fixture(autouse=True)
def slow_engine(page: Page, app: ServedApp) -> Iterator[None]:
    """It is ready when the page is open."""
    with slowed(app.worker()):
        yield


def answer_endlessly(page: Page) -> None:
    set_sampling(page, "Max new tokens", 1900)


def test_nothing_else_can_be_done_meanwhile(page: Page) -> None:
    open_tab(page, "Chat")
    answer_shortly(page)
    disclose(page, "Save or share")
    open_settings(page)
    ask(page, QUESTION)
    regenerate(page)
    expect(versions(page)).to_contain_text("2/2")
    over(page)

    answer_endlessly(page)
    send(page, "Count.")
    expect(answer(page)).to_have_count(2)
    for name in ("Clear", "New", "Rename", "Delete", "Import JSON"):
        expect(page.get_by_role("tabpanel").get_by_role("button", name=name, exact=True)).to_be_disabled()
    for name in ("Regenerate", "Continue", "Undo"):
        expect(page.get_by_role("tabpanel").get_by_role("button", name=name, exact=True)).to_have_count(0)
    expect(page.get_by_label("Answer 1: earlier version")).to_be_hidden()
    system_prompt(page).press("ControlOrMeta+a")
    page.keyboard.type("You are")
    stop_by_escape(page, answer(page).last)
    expect(system_prompt(page)).to_have_value("You are")
    over(page)
    expect(answer(page)).to_have_count(2)


def test_escape_first_closes_what_is_open(page: Page) -> None:
    open_tab(page, "Chat")
    answer_endlessly(page)
    open_settings(page)
    send(page, "Count.")
    expect(answer(page)).to_have_text([re.compile(r"\w")])
    page.get_by_role("combobox", name="Persona").click()
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("option")).to_have_count(0)
    composing = "box => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true, %s}))"
    for how in ("isComposing: true", "keyCode: 229"):
        message_box(page).evaluate(composing % how)
    page.wait_for_function(LONGER, arg=len(answer(page).inner_text()))
    message_box(page).press("Escape")
    expect(state(page)).to_have_text("Stopped")


def test_what_waits_follows_or_can_be_taken_back(page: Page) -> None:
    open_tab(page, "Chat")
    answer_endlessly(page)
    for words in ("Count.", "Wait for me.", "And for me."):
        send(page, words)
        expect(message_box(page)).to_have_value("")
    waiting = page.locator("#attached .chip.message")
    expect(waiting).to_have_text(["Next: Wait for me.×", "Next: And for me.×"])
    stop_by_escape(page, answer(page))
    over(page)
    expect(waiting).to_have_count(2)
    waiting.first.get_by_role("button", name="Remove from the queue").click()
    expect(message_box(page)).to_have_value("Wait for me.")
    set_sampling(page, "Max new tokens", 4)
    message_box(page).press("Enter")
    expect(question(page)).to_have_text(["Count.", "Wait for me.", "And for me."])
    expect(answer(page)).to_have_count(3)
    over(page)


def test_what_was_written_survives_a_reload(page: Page) -> None:
    open_tab(page, "Chat")
    answer_endlessly(page)
    open_settings(page)
    page.get_by_label("Start the reply with").fill(BEGINNING)
    send(page, "Tell me a story.")
    page.wait_for_function(LONGER, arg=len(BEGINNING) + 100)
    reload(page)
    expect(question(page)).to_have_text(["Tell me a story."])
    expect(answer(page)).to_contain_text([BEGINNING])
    expect(notice(page)).to_contain_text("The page was closed while this answer was being written.")
    written = answer(page).inner_text()
    assert len(written) > len(BEGINNING) + 20

    set_sampling(page, "Max new tokens", 8)
    notice(page).get_by_role("button", name="Continue").click()
    expect(state(page)).to_have_text("Stopped at the length limit")
    over(page)
    expect(answer(page)).to_have_count(1)
    assert answer(page).inner_text().startswith(written.rstrip())
    assert len(answer(page).inner_text()) > len(written)


def test_a_long_answer_is_followed_unless_the_visitor_reads_back(page: Page) -> None:
    open_tab(page, "Chat")
    answer_endlessly(page)
    open_settings(page)
    page.get_by_label("Start the reply with").fill("\n\n".join(f"{i}" for i in range(1, 40)))
    send(page, "Count, a number a line.")
    expect(state(page)).to_have_text("Writing")
    page.wait_for_function("document.getElementById('talk').scrollTop > 300")
    page.wait_for_function(f"({GAP}) < 60")
    jump = page.get_by_role("button", name="Go to the end")
    expect(jump).to_be_hidden()

    page.locator("#talk").hover()
    page.mouse.wheel(0, -300)
    expect(jump).to_be_visible()
    top = page.locator("#talk").evaluate("talk => talk.scrollTop")
    page.wait_for_function(LONGER, arg=len(answer(page).inner_text()) + 20)
    assert page.locator("#talk").evaluate("talk => talk.scrollTop") == top
    jump.click()
    page.wait_for_function(f"({GAP}) < 60")
    expect(jump).to_be_hidden()
    page.keyboard.press("Escape")
    over(page)
    page.wait_for_function(f"({GAP}) < 60")
    page.get_by_label("Start the reply with").fill("")


def test_stop_stops_a_text(page: Page) -> None:
    answer_endlessly(page)
    text_box(page).fill(BEGINNING)
    text_box(page).press("Shift+Enter")
    wait_for_more(page, BEGINNING)
    expect(state(page)).to_have_text("Writing")
    page.keyboard.press("Escape")
    expect(state(page)).to_have_text("Stopped")
    stopped = text_box(page).input_value()
    page.wait_for_timeout(1500)
    assert text_box(page).input_value() == stopped
    assert page.evaluate("document.activeElement.closest('#generate-start, #generate-text') !== null")

    set_sampling(page, "Max new tokens", 4)
    press(page, "Continue")
    expect(state(page)).to_have_text("Stopped at the length limit")


def test_stop_stops_an_instruction(page: Page) -> None:
    open_tab(page, "Instruct")
    answer_endlessly(page)
    page.get_by_role("textbox", name="Instruction", exact=True).fill("Tell me about the sea.")
    page.keyboard.press("Enter")
    stop_by_escape(page, page.locator("#instruct-answer .shown"))
    expect(page.get_by_role("button", name="Run")).to_be_visible()


def test_one_visitors_stop_leaves_the_others_alone(page: Page, open_page: OpenPage) -> None:
    pages = [page, open_page()]
    open_tab(pages[1], "Generate")
    for page, tokens in zip(pages, (80, 1900), strict=True):
        set_sampling(page, "Max new tokens", tokens)
        text_box(page).fill(BEGINNING)
    for page in pages:
        press(page, "Generate")
    press(pages[1], "Stop")
    expect(state(pages[1])).to_have_text("Stopped")
    expect(state(pages[0])).to_have_text("Stopped at the length limit")


def test_an_engine_that_ends_takes_nothing_with_it(page: Page, app: ServedApp) -> None:
    """One sentence, and a new engine with the next request, which the header tells."""
    answer_endlessly(page)
    text_box(page).fill(BEGINNING)
    press(page, "Generate")
    expect(state(page)).to_have_text("Writing")
    app.worker().kill()
    expect(state(page)).to_contain_text("Nothing you wrote is lost")
    set_sampling(page, "Max new tokens", 8)
    generate(page, BEGINNING)
    expect(page.locator("#sentence")).to_contain_text("The engine stopped and has been restarted")


def test_an_answer_that_lost_its_engine_goes_on(page: Page, app: ServedApp) -> None:
    """Its text stays, the page says what happened, and Continue goes on where it was."""
    open_tab(page, "Chat")
    answer_endlessly(page)
    send(page, "Count from one to a thousand, in words.")
    page.wait_for_function(LONGER, arg=40)
    app.worker().kill()
    expect(state(page)).to_contain_text("The engine's process ended while it was working")
    over(page)
    written = answer(page).inner_text()
    assert len(written) > 40
    expect(page.locator("#sentence")).to_contain_text(re.compile("is restarting|has been restarted"))
    page.get_by_role("tabpanel").locator(".line").get_by_role("button", name="Continue").click()
    page.wait_for_function(LONGER, arg=len(written) + 20)
    page.keyboard.press("Escape")
    over(page)
    assert answer(page).inner_text().startswith(written[:40])
