"""The page as a whole: what all tabs share, how it looks, and what it says when something is wrong."""

from itertools import product
from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from falcon_runtime.models.catalog import STARTER
from tests.served_app import ServedApp, serve
from ui.markup import CLASSES

from .actions import (
    OVER,
    QUESTION,
    choose_preset,
    generate,
    link,
    message_box,
    open_settings,
    open_tab,
    press,
    question,
    regenerate,
    reload,
    sampling,
    send,
    set_sampling,
    state,
    text_box,
)
from .conftest import OpenPage
from .tour import tour

AXE = "options => axe.run(document, {...options, resultTypes: ['violations']}).then(found => found.violations)"
ALL: dict[str, Any] = {}
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
"""The rules that a night can break which a day keeps: the elements and their names are the same."""
VIEWS = {
    "#about": "[popovertarget=about]",
    "#models": "[popovertarget=models]",
    "#more": "[popovertarget=more]",
    "#choices": "[data-do=choose]",
}
"""What lies over the page, and the buttons that open it."""
OWN_TEMPERATURE = f"{STARTER.sampling['temperature']:g}"


def violations(page: Page, options: dict[str, Any]) -> list[tuple[str, str]]:
    """What axe finds in the page as it is: the rules, each with the first element that breaks it."""
    return [(violation["id"], violation["nodes"][0]["html"]) for violation in page.evaluate(AXE, options)]


def test_presets_and_settings_stay(page: Page) -> None:
    choose_preset(page, "Creative")
    expect(sampling(page, "Temperature")).to_have_value("0.9")
    expect(page.locator("#sampling")).to_contain_text("How adventurous the choice is: 0 always takes the likeliest")
    set_sampling(page, "Temperature", 0.4)
    expect(page.locator("#preset").get_by_label("Custom")).to_be_checked()
    set_sampling(page, "Max new tokens", 99)
    page.wait_for_timeout(500)  # Nobody reloads in the instant of typing; the page has to tell the browser.

    reload(page)
    expect(sampling(page, "Temperature")).to_have_value("0.4")
    expect(sampling(page, "Max new tokens")).to_have_value("99")
    expect(page.locator("#preset").get_by_label("Custom")).to_be_checked()
    page.locator("#reset-sampling").click()
    expect(sampling(page, "Temperature")).to_have_value(OWN_TEMPERATURE)
    expect(page.locator("#preset").get_by_label("Balanced")).to_be_checked()


def test_the_view_of_the_api(page: Page, console_errors: list[str]) -> None:
    """Three endpoints and three tools, and nothing of the page's events."""
    page.get_by_role("button", name="Use via API or MCP").click()
    view = page.locator(".api-docs")
    expect(view).to_contain_text("3 MCP Tools")
    expect(view.locator(".tool-name")).to_have_text(["generate", "chat", "instruct"])
    view.get_by_text("Python", exact=True).click()
    expect(view).to_contain_text("3 API endpoints")
    expect(view).to_contain_text('message="What is the capital of France?"')
    expect(view).to_contain_text("How adventurous the choice is: 0 always takes the likeliest token.")
    assert [error for error in console_errors if "404" not in error] == []
    console_errors.clear()  # The view asks for statistics that are not kept.


def test_a_link_reopens_prompt_and_settings(open_page: OpenPage, app: ServedApp) -> None:
    # What cannot be is passed over.
    page = open_page(f"{app.url}/#tab=generate&text=x&temperature=hot&top_k=7")
    expect(text_box(page)).to_have_value("x")
    expect(sampling(page, "Temperature")).to_have_value(OWN_TEMPERATURE)

    set_sampling(page, "Temperature", 0.7)
    text_box(page).fill("A text with ünusual signs & = # %\nand two lines")
    other = open_page(link(page))
    expect(text_box(other)).to_have_value("A text with ünusual signs & = # %\nand two lines")
    expect(sampling(other, "Temperature")).to_have_value("0.7")
    other.goto(f"{app.url}/#tab=generate&text=another")  # Followed in the tab that has the page.
    expect(text_box(other)).to_have_value("another")


def test_what_is_typed_beyond_a_scale_is_its_end(page: Page) -> None:
    open_tab(page, "Generate")
    set_sampling(page, "Max new tokens", 99999)
    expect(sampling(page, "Max new tokens")).to_have_value("2048")
    set_sampling(page, "Max new tokens", 0)
    set_sampling(page, "Temperature", 7)
    generate(page, "Once upon a time")
    expect(page.get_by_role("tabpanel")).to_contain_text("Decode 1 ")
    expect(sampling(page, "Temperature")).to_have_value("2")
    expect(page.locator(".toast-wrap")).to_have_text("")


def test_errors_are_said_in_place(page: Page) -> None:
    open_tab(page, "Generate")
    open_settings(page)
    page.locator("#sampling").get_by_role("button", name="More").click()
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
        regenerate(page)
        expect(state(page)).to_contain_text("Waiting for the model")
        engine.resume()
        expect(state(page)).to_have_text(OVER)
        expect(page.locator("#header").get_by_role("status")).to_have_text("Ready")
        page.close()


def test_model_that_cannot_be_had(open_page: OpenPage, tmp_path: Path) -> None:
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    with serve(tmp_path / "models", tmp_path / "log", **nowhere) as app:
        page = open_page(app.url, "Failed")
        expect(page.locator("#sentence")).to_contain_text("pip could not download")
        open_tab(page, "Chat")
        send(page, QUESTION)
        expect(state(page)).to_contain_text("pip could not download")
        expect(message_box(page)).to_have_value(QUESTION)
        expect(question(page)).to_have_count(0)
        page.close()


def test_fits_the_screen_and_everybody(page: Page) -> None:
    """No tab scrolls sideways, and axe finds nothing in it, on a desk and on a phone, by day and by night, with an
    answer and everything unfolded; nor in what lies over the page. Gradio's markup is what the styles take it for."""
    page.evaluate(AXE_SCRIPT)
    for name in tour(page):
        for width, scheme in product((390, 1280), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            expect(page.locator("body.dark")).to_have_count(int(scheme == "dark"))
            page.wait_for_function("document.getAnimations().every(each => each.playState !== 'running')")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, scheme)
            assert violations(page, ALL if scheme == "light" else COLOURS) == [], (name, width, scheme)
    there = "classes => classes.filter(name => !document.getElementsByClassName(name).length)"
    assert page.evaluate(there, list(CLASSES)) == []
    open_tab(page, "Chat")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    for view, button in VIEWS.items():
        page.locator(f"{button}:visible").last.click()
        expect(page.locator(view)).to_be_visible()
        assert violations(page, ALL) == [], view
        page.keyboard.press("Escape")
        expect(page.locator(view)).to_be_hidden()
    for region in ("#generate-text", "#live", "#instruct-answer", ".block.compare-answer"):
        expect(page.locator(region).first).to_have_attribute("aria-live", "polite")
        expect(page.locator(region).first).to_have_attribute("aria-busy", "false")
