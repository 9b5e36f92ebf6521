"""A walk through all tabs with something to see in each, for the screenshots and for what must hold everywhere."""

from collections.abc import Iterator

from playwright.sync_api import Page, expect

from .actions import OVER, ask, choose_preset, generate, open_tab, press, regenerate, set_sampling, state, text_box

TABS = ("Chat", "Generate", "Instruct", "Compare")


def tour(page: Page, unfold: bool = True) -> Iterator[str]:
    """Uses one tab after the other and gives its name when there is something to see; `unfold` opens what is folded."""
    choose_preset(page, "Precise")
    if unfold:
        page.locator("#sampling").get_by_role("button", name="More").click()
    for name, use in zip(TABS, (_chat, _generate, _instruct, _compare), strict=True):
        open_tab(page, name)
        use(page, unfold)
        expect(page.locator(".stop-run:visible")).to_have_count(0)
        page.mouse.move(0, 0)
        page.wait_for_timeout(400)  # Buttons fade in when a run is over.
        yield name


def _generate(page: Page, unfold: bool) -> None:
    set_sampling(page, "Max new tokens", 48)
    press(page, "A story")
    expect(text_box(page)).not_to_have_value("")
    generate(page, text_box(page).input_value())
    page.locator("#token-view .tokens [role=button]").nth(8).click()
    expect(page.locator("#alternatives button")).to_have_count(10)
    if unfold:
        page.locator("#alternatives button:enabled").nth(1).click()
        expect(page.locator("#trail button")).to_have_count(1)
        page.get_by_role("button", name="For engineers").click()


def _chat(page: Page, unfold: bool) -> None:
    set_sampling(page, "Max new tokens", 120)
    ask(page, "What is the capital of France?")
    ask(page, "Name three things to see there, as a list.")
    if unfold:
        regenerate(page)
        expect(page.locator("#conversation .versions")).to_contain_text("2/2")
        page.get_by_role("button", name="Save or share").click()


def _instruct(page: Page, unfold: bool) -> None:
    press(page, "Summarise")
    expect(page.get_by_label("Instruction")).not_to_have_value("")
    press(page, "Run")
    expect(state(page)).to_have_text(OVER)
    expect(page.locator("#context-size")).to_contain_text("tokens")
    if unfold:
        page.get_by_role("button", name="Form of the answer").click()
        page.locator("#form").get_by_label("JSON").check()
        expect(page.get_by_label("JSON schema")).to_be_visible()


def _compare(page: Page, unfold: bool) -> None:
    press(page, "What is the opposite of brave?")
    expect(page.get_by_label("Prompt", exact=True)).not_to_have_value("")
    page.locator("#compare-start").click()
    expect(page.locator("#difference")).to_contain_text("Tokens per second")
