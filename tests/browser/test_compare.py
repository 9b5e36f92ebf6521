"""The Compare tab and the model menu as visitors use them."""

import json
import re
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from falcon_runtime.models.catalog import STARTER
from tests.served_app import ServedApp, serve

from .actions import OVER, open_tab, press, settle
from .chat_actions import download
from .conftest import OpenPage

TOKYO = "What is the capital of Japan?"


def sides(page: Page) -> Locator:
    return page.locator(".block.compare-answer")


def states(page: Page) -> Locator:
    """What the two sides' lines say is going on."""
    return page.locator("#sides .line .state")


def set_side(page: Page, side: int, name: str, value: float) -> None:
    """Sets one setting of one side."""
    column = page.locator("#sides > .column").nth(side)
    field = column.get_by_label(f"number input for {name}", exact=True)
    if field.is_hidden():
        column.get_by_role("button", name="Settings").click()
        settle(page)
    field.fill(str(value))
    field.blur()


def compare(page: Page, prompt: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.keyboard.press("Enter")
    for i in range(2):
        expect(states(page).nth(i)).to_have_text(OVER)


def test_two_temperatures(page: Page) -> None:
    open_tab(page, "Compare")
    for side in range(2):
        set_side(page, side, "Max new tokens", 24)
    compare(page, TOKYO)
    expect(sides(page).first).to_contain_text("Tokyo")
    difference = page.locator("#difference")
    expect(difference).to_contain_text(re.compile(r"Tokens written.*Tokens per second.*First token after", re.DOTALL))
    expect(page.locator("#settings")).to_be_hidden()
    page.locator("#verdict").get_by_label("Right").check()
    exported = json.loads(download(page, "Export as JSON"))
    assert exported["prompt"] == TOKYO
    assert exported["vote"] == "right"
    assert [exported[side]["settings"]["temperature"] for side in ("left", "right")] == [0, 0.8]
    assert "Tokyo" in exported["left"]["answer"]
    assert exported["left"]["stats"]["generated_tokens"] > 0

    set_side(page, 1, "Right temperature", 0)
    compare(page, TOKYO)
    expect(difference).to_contain_text("Both wrote the same text.")
    expect(page.locator("#verdict").get_by_label("Right")).not_to_be_checked()
    press(page, "Clear")
    expect(difference).to_have_text("")


def test_both_sides_go_on_and_come_back(page: Page) -> None:
    open_tab(page, "Compare")
    for side in range(2):
        set_side(page, side, "Max new tokens", 6)
    set_side(page, 1, "Right temperature", 0)
    compare(page, "Write a haiku about the sea.")
    begun = [sides(page).nth(i).locator(".shown").text_content() or "" for i in range(2)]
    page.locator("#sides").get_by_role("button", name="Continue").first.click()
    for i in range(2):
        more = re.compile(re.escape(begun[i].strip()) + r"\s*\S")
        expect(sides(page).nth(i).locator(".shown")).to_have_text(more)
        expect(states(page).nth(i)).to_have_text(OVER)
    expect(page.locator("#difference")).to_contain_text("Tokens written")
    text = sides(page).first.locator(".shown").text_content() or ""
    press(page, "Clear")
    expect(sides(page).first.locator(".shown")).to_have_text("")
    press(page, "Restore")
    expect(sides(page).first.locator(".shown")).to_have_text(text)


def test_two_recipes(starter_int8: Path, app: ServedApp, page: Page) -> None:
    """The second engine is there while it is used, and where there is no memory for it the page says so."""
    open_tab(page, "Compare")
    for side in range(2):
        set_side(page, side, "Max new tokens", 24)
    set_side(page, 1, "Right temperature", 0)
    page.get_by_label("Right model").click()
    page.get_by_role("option", name=re.compile("int8")).click()
    compare(page, TOKYO)
    for i in range(2):
        expect(sides(page).nth(i)).to_contain_text("Tokyo")
    expect(page.locator("#header")).to_contain_text("int4")
    assert len(app.workers()) == 2


def test_a_public_page_offers_no_downloads(open_page: OpenPage, starter_models_dir: Path, tmp_path: Path) -> None:
    with serve(starter_models_dir, tmp_path / "log", "--offer", "converted") as app:
        page = open_page(app.url, re.compile("Loading|Ready"))
        page.get_by_role("button", name="Models").click()
        expect(page.locator("#model-menu").get_by_label(re.compile(STARTER.title)).first).to_be_visible()
        expect(page.locator("#model-menu")).not_to_contain_text("to download")
        page.close()
