"""Conversations where they are kept and where they go: one browser and its tabs, other browsers, files and links."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from falcon_runtime.models.catalog import STARTER

from .actions import (
    EXAMPLE,
    QUESTION,
    answer,
    answer_shortly,
    ask,
    disclose,
    link,
    message_box,
    open_tab,
    opened,
    over,
    press,
    question,
    regenerate,
    reload,
    sampling,
    send,
    state,
    system_prompt,
    toast,
    versions,
)
from .chat_actions import (
    GREECE,
    choose_conversation,
    conversations,
    download,
    import_file,
    open_conversation,
    press_in_message,
    ready,
)
from .conftest import OpenPage


@pytest.fixture
def page(page: Page) -> Page:
    return ready(page)


def test_conversations_stay_in_the_browser(page: Page, open_page: OpenPage) -> None:
    ask(page, QUESTION)
    expect(open_conversation(page)).to_have_text(QUESTION)
    press(page, "New")
    expect(question(page)).to_have_count(0)
    page.get_by_role("button", name=EXAMPLE).click()
    expect(answer(page)).to_contain_text(["Tokyo"])
    expect(open_conversation(page)).to_have_text(EXAMPLE)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    choose_conversation(page, QUESTION)
    expect(answer(page)).to_contain_text(["Paris"])

    reload(page)
    expect(question(page)).to_have_text([QUESTION])
    expect(answer(page)).to_contain_text(["Paris"])

    same_browser = page.context.new_page()
    same_browser.goto(page.url)
    opened(same_browser)
    open_tab(same_browser, "Chat")
    choose_conversation(same_browser, QUESTION)
    expect(question(same_browser)).to_have_text(QUESTION)
    press(same_browser, "Delete")
    expect(question(same_browser)).to_have_text(EXAMPLE)
    toast(same_browser).get_by_role("button", name="Restore").click()
    expect(question(same_browser)).to_have_text(QUESTION)
    for left in (EXAMPLE, "New conversation"):
        press(same_browser, "Delete")
        expect(open_conversation(same_browser)).to_have_text(left)
    expect(question(same_browser)).to_have_count(0)

    other_browser = open_page()
    open_tab(other_browser, "Chat")
    expect(open_conversation(other_browser)).to_have_text("New conversation")
    expect(question(other_browser)).to_have_count(0)


def test_who_answers_and_how(page: Page) -> None:
    ask(page, "Who are you?")
    nobody = answer(page).inner_text()
    page.get_by_role("combobox", name="Persona").click()
    page.get_by_role("option", name="A pirate").click()
    expect(system_prompt(page)).to_have_value("You are a pirate. Talk like one.")
    regenerate(page)
    expect(versions(page)).to_contain_text("2/2")
    assert answer(page).inner_text() != nobody

    system_prompt(page).fill("You are a parrot.")
    press(page, "New")
    expect(question(page)).to_have_count(0)
    expect(system_prompt(page)).to_have_value(STARTER.system)
    page.get_by_label("Start the reply with").fill("Certainly: the capital")
    ask(page, QUESTION)
    expect(answer(page)).to_have_text([re.compile(r"^\s*Certainly: the capital of France is Paris")])

    choose_conversation(page, "Who are you?")
    expect(system_prompt(page)).to_have_value("You are a parrot.")
    reload(page)
    expect(question(page)).to_have_text(["Who are you?"])
    expect(system_prompt(page)).to_have_value("You are a parrot.")
    page.get_by_role("button", name="Use the model's own").click()
    expect(system_prompt(page)).to_have_value(STARTER.system)
    expect(page.get_by_role("button", name="Use the model's own")).to_be_hidden()


def test_a_conversation_travels_as_a_file(page: Page, open_page: OpenPage, tmp_path: Path) -> None:
    ask(page, QUESTION)
    press_in_message(page, "Like")
    disclose(page, "Save or share")
    exported = download(page, "Export as JSON")
    reply = answer(page).inner_text()
    written = [(message["content"], message["feedback"]) for message in json.loads(exported)["messages"]]
    assert written == [(QUESTION, None), (reply, "Like")]
    read = download(page, "Download as Markdown")
    heading = f"# {QUESTION}"
    assert read == f"{heading}\n\n**You**\n\n```text\n{QUESTION}\n```\n\n**Model** (liked)\n\n{reply}\n"

    other = ready(open_page())
    disclose(other, "Save or share")
    import_file(other, tmp_path / "conversation.json", exported)
    expect(question(other)).to_have_text(QUESTION)
    expect(answer(other)).to_have_text(reply)
    assert download(other, "Export as JSON") == exported

    import_file(other, tmp_path / "broken.json", exported[:-20])
    expect(state(other)).to_contain_text("The file is not JSON")
    expect(question(other)).to_have_text(QUESTION)


def test_a_link_opens_the_chat_as_it_was_set_up(page: Page, open_page: OpenPage) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    system_prompt(page).fill("You are a parrot & a poet.")
    message_box(page).fill("100% of #1?")
    disclose(page, "Save or share")
    url = link(page)
    assert page.evaluate("navigator.clipboard.readText()") == url

    other = open_page(url)
    for _ in range(2):
        expect(message_box(other)).to_have_value("100% of #1?")
        expect(sampling(other, "Max new tokens")).to_have_value("24")
        expect(sampling(other, "Temperature")).to_have_value("0")
        expect(system_prompt(other)).to_have_value("You are a parrot & a poet.")
        expect(conversations(other)).to_have_count(1)
        reload(other)


def test_a_link_is_taken_once(page: Page) -> None:
    page.goto(f"{page.url.partition('#')[0]}?again#tab=chat&text=Hi&system=You+are+a+parrot.&max_new_tokens=4")
    opened(page)
    for _ in range(2):  # Until something is asked, to reload is to open the link again.
        expect(message_box(page)).to_have_value("Hi")
        reload(page)
    expect(message_box(page)).to_have_value("Hi")
    message_box(page).press("Enter")
    expect(answer(page)).to_have_count(1)
    over(page)
    reload(page)
    expect(question(page)).to_have_text(["Hi"])
    expect(answer(page)).to_have_count(1)
    expect(message_box(page)).to_have_value("")
    expect(system_prompt(page)).to_have_value("You are a parrot.")


def test_two_tabs_of_one_browser(page: Page) -> None:
    other = page.context.new_page()
    other.goto(page.url)
    opened(other)
    open_tab(other, "Chat")
    answer_shortly(other)
    send(page, QUESTION)
    send(other, GREECE)
    for tab, own in ((page, "Paris"), (other, "Athens")):
        expect(answer(tab)).to_contain_text(own)
        over(tab)
    reload(page)
    expect(question(page)).to_have_text([QUESTION])
    choose_conversation(page, GREECE)
    expect(answer(page)).to_contain_text(["Athens"])
    expect(conversations(other)).to_have_count(2)


def test_visitors_never_see_each_others_text(page: Page, open_page: OpenPage) -> None:
    pages = {"France": page, "Greece": ready(open_page())}
    for country, visitor in pages.items():
        send(visitor, f"What is the capital of {country}?")
    for visitor, own, others in ((page, "Paris", "Greece|Athens"), (pages["Greece"], "Athens", "France|Paris")):
        expect(answer(visitor)).to_contain_text(own)
        expect(state(visitor)).to_have_text("Finished")
        expect(visitor.get_by_role("button", name="Send")).to_be_visible()
        reload(visitor)
        expect(answer(visitor)).to_contain_text(own)
        expect(visitor.locator("body")).not_to_contain_text(re.compile(others))
