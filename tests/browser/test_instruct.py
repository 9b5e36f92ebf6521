"""The Instruct tab as its visitors use it."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from ..ui.test_documents import pdf
from .actions import (
    OVER,
    QUESTION,
    answer_shortly,
    disclose,
    link,
    open_tab,
    press,
    sampling,
    set_sampling,
    state,
)
from .conftest import OpenPage

INSTRUCTION = "Describe the event in the text."
CONTEXT = "The Falcon Fair takes place in Dubai on 2026-03-14."


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The tab in one visit: nothing is in it, its answers are texts, and short ones."""
    open_tab(shared_page, "Instruct")
    clear(shared_page)
    expect(instruction(shared_page)).to_have_value("")
    expect(context(shared_page)).to_have_value("")
    expect(size(shared_page)).to_have_text("")
    expect(answer(shared_page)).to_have_text("")
    expect(state(shared_page)).to_have_text("Nothing asked yet")
    expect(shared_page.locator("#document").get_by_role("button", name="Clear")).to_have_count(0)
    answer_shortly(shared_page)
    return shared_page


def clear(page: Page) -> None:
    """Presses the tab's Clear; one file has another."""
    page.get_by_role("tabpanel").get_by_role("button", name="Clear", exact=True).last.click()


def instruction(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Instruction", exact=True)


def context(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Context (optional)", exact=True)


def size(page: Page) -> Locator:
    """What is said below the context about its length."""
    return page.locator("#context-size")


def schema(page: Page) -> Locator:
    return page.get_by_role("textbox", name="JSON schema", exact=True)


def answer(page: Page) -> Locator:
    return page.locator("#instruct-answer .shown")


def drop(page: Page, file: Path) -> None:
    """Gives the page a file in the place of the one that it has."""
    document = page.locator("#document")
    if (remove := document.get_by_role("button", name="Clear")).count():
        remove.click()
    document.locator("input[type=file]").set_input_files(file)


def test_a_task_and_an_instruction_of_ones_own(page: Page) -> None:
    press(page, "Summarise")
    expect(instruction(page)).to_have_value(re.compile("^Summarise"))
    expect(context(page)).to_have_value(re.compile("peregrine falcon"))
    expect(size(page)).to_have_text(re.compile(r"\d+ tokens; 1,280 fit"))
    context(page).fill(CONTEXT)
    press(page, "Explain")
    expect(instruction(page)).to_have_value(re.compile("^Explain"))
    expect(context(page)).to_have_value(CONTEXT)

    clear(page)
    expect(context(page)).to_have_value("")
    expect(size(page)).to_have_text("")
    instruction(page).fill(QUESTION)
    instruction(page).press("Enter")
    expect(answer(page)).to_contain_text("Paris")
    expect(state(page)).to_have_text("Finished")
    expect(instruction(page)).to_be_focused()


def test_files_fill_the_context(page: Page, tmp_path: Path) -> None:
    text, document, other, damaged = (tmp_path / name for name in ("a.txt", "b.pdf", "c.docx", "d.pdf"))
    text.write_text("Falcons hunt by day.")
    pdf("Owls hunt by night.").write(document)
    other.write_bytes(b"PK\x03\x04")
    damaged.write_bytes(document.read_bytes()[:300])

    drop(page, text)
    expect(context(page)).to_have_value("Falcons hunt by day.")
    expect(size(page)).to_have_text(re.compile(r"\d tokens; 1,280 fit"))
    drop(page, document)
    expect(context(page)).to_have_value("Owls hunt by night.")
    drop(page, other)
    expect(state(page)).to_have_text(re.compile("c.docx cannot be read: only files that end in .txt, .md, .pdf can"))
    drop(page, damaged)
    expect(state(page)).to_have_text(re.compile("d.pdf is damaged"))
    expect(context(page)).to_have_value("Owls hunt by night.")
    expect(page.locator(".toast-wrap")).to_have_text("")


def test_a_text_that_is_too_long_is_cut_off_on_request(page: Page, tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text("The falcon flies. " * 500)
    drop(page, long)
    expect(size(page).locator(".warning")).to_contain_text("tokens are more than the 1,280 that fit")
    press(page, "Keep the first 1,280 tokens")
    expect(size(page)).to_have_text("1,280 tokens; 1,280 fit")
    expect(page.get_by_role("button", name="Keep the first")).to_have_count(0)
    assert long.read_text().startswith(context(page).input_value())


def test_an_answer_as_json_is_a_table_or_a_sentence(page: Page) -> None:
    disclose(page, "Form of the answer")
    expect(schema(page)).to_have_count(0)
    page.get_by_label("JSON", exact=True).check()
    press(page, "Review")
    expect(schema(page)).to_have_value(re.compile('"sentiment"'))
    press(page, "Event")
    expect(schema(page)).to_have_value(re.compile('"place"'))

    set_sampling(page, "Max new tokens", 80)
    instruction(page).fill(INSTRUCTION)
    context(page).fill(CONTEXT)
    press(page, "Run")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    schema(page).fill('{"type": "object",')  # Too late for the answer that is on its way.
    expect(state(page)).to_have_text(OVER)
    value = page.locator("#instruct-value")
    table = value.get_by_role("rowheader", name="title")
    expect(table.or_(value.locator(".warning")).first).to_be_visible()

    press(page, "Run")
    expect(state(page)).to_contain_text("The schema is not JSON")
    expect(value.locator("table, .warning")).to_have_count(0)
    schema(page).fill('{"type": "array"}')
    press(page, "Run")
    expect(state(page)).to_contain_text("The schema must describe an object")
    expect(page.locator(".toast-wrap")).to_have_text("")

    page.locator("#form").get_by_role("radio", name="Text").check()
    expect(schema(page)).to_have_count(0)
    disclose(page, "Form of the answer")


def test_a_link_opens_the_task(page: Page, open_page: OpenPage) -> None:
    instruction(page).fill(INSTRUCTION)
    context(page).fill(f"{CONTEXT}\n100% of #1 & more")
    other = open_page(link(page))
    expect(instruction(other)).to_have_value(INSTRUCTION)
    expect(context(other)).to_have_value(f"{CONTEXT}\n100% of #1 & more")
    expect(sampling(other, "Max new tokens")).to_have_value("24")
    expect(size(other)).to_have_text(re.compile(r"\d+ tokens; 1,280 fit"))


def test_an_answer_that_was_cut_off_goes_on_in_place(page: Page) -> None:
    set_sampling(page, "Max new tokens", 8)
    instruction(page).fill("Write a haiku about the sea.")
    press(page, "Run")
    expect(state(page)).to_have_text("Stopped at the length limit")
    begun = answer(page).text_content() or ""
    press(page, "Continue")
    expect(answer(page)).to_have_text(re.compile(re.escape(begun.strip()) + r"\s*\S"))
    expect(state(page)).to_have_text(OVER)
    # What it wrote has lines, and they are shown as lines.
    raw = page.locator("#instruct-answer .answer").get_attribute("data-text") or ""
    assert answer(page).inner_text().count("\n") >= raw.strip().count("\n")


def test_what_was_cleared_can_be_brought_back(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("Falcons hunt by day.")
    drop(page, file)
    expect(context(page)).to_have_value("Falcons hunt by day.")
    instruction(page).fill(QUESTION)
    context(page).fill("    def f():\n        return 1")
    press(page, "Run")
    expect(state(page)).to_have_text(OVER)
    text = answer(page).text_content() or ""
    clear(page)
    expect(instruction(page)).to_have_value("")
    expect(answer(page)).to_have_text("")
    press(page, "Restore")
    expect(instruction(page)).to_have_value(QUESTION)
    expect(context(page)).to_have_value("    def f():\n        return 1")
    expect(answer(page)).to_have_text(text)

    clear(page)
    expect(instruction(page)).to_have_value("")
    instruction(page).press_sequentially("Something new")
    expect(page.get_by_role("button", name="Restore")).to_have_count(0)
