"""The Generate tab as its visitors use it."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from .actions import (
    COUNTING,
    OVER,
    answer_greedily,
    clear,
    disclose,
    generate,
    open_tab,
    press,
    reset_sampling,
    set_sampling,
    state,
    text_box,
    wait_for_more,
)


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The page of one visit: an empty text, and the model's own settings."""
    open_tab(shared_page, "Generate")
    press(shared_page, "Clear")
    expect(text_box(shared_page)).to_have_value("")
    expect(tokens(shared_page)).to_have_count(0)
    expect(forks(shared_page)).to_have_count(0)
    expect(state(shared_page)).to_have_text("Nothing asked yet")
    reset_sampling(shared_page)
    return shared_page


def tokens(page: Page) -> Locator:
    return page.locator("#token-view .tokens [role=button]")


def written(page: Page, count: int) -> str:
    """The text of the first tokens that were generated."""
    return "".join(token.text_content() or "" for token in tokens(page).all()[:count]).replace("↵", "")


def alternatives(page: Page) -> Locator:
    return page.locator("#alternatives button")


def forks(page: Page) -> Locator:
    return page.locator("#trail button")


def test_continues_in_place(page: Page) -> None:
    set_sampling(page, "Max new tokens", 16)
    first = generate(page, "Once upon a time")
    assert first.startswith("Once upon a time")
    assert len(first) > len("Once upon a time")
    expect(page.get_by_role("tabpanel")).to_contain_text(re.compile(r"Prefill \d+ tokens.*Decode 16 at .* tok/s"))
    expect(page.locator(".gauge").first).to_have_attribute("aria-label", re.compile(r"read.*16 written"))

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
    expect(tokens(page)).to_have_count(0)


def test_a_token_shows_its_alternatives_and_forks(page: Page) -> None:
    answer_greedily(page, 12)
    first = generate(page, "The capital of France is")
    expect(tokens(page)).to_have_count(12)
    assert written(page, 12) == first.removeprefix("The capital of France is")
    expect(page.locator("#token-view")).to_contain_text(re.compile(r"tokens of prompt, 12 written.*perplexity of"))
    expect(page.locator("#token-view rect")).to_have_count(12)

    page.set_viewport_size({"width": 1280, "height": 600})  # They come below the window.
    tokens(page).nth(2).click()
    expect(alternatives(page)).to_have_count(10)
    expect(alternatives(page).last).to_be_in_viewport()
    page.set_viewport_size({"width": 1280, "height": 900})
    shares = [float(share.rstrip("%")) for share in page.locator("#alternatives .share").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    # At temperature 0 the token that came is the likeliest one.
    expect(alternatives(page).first).to_have_attribute("aria-current", "true")

    other = alternatives(page).nth(1)
    word = other.locator(".word").inner_text().replace("␣", " ").replace("↵", "\n")
    other.click()
    expect(state(page)).to_have_text(OVER)
    expect(forks(page)).to_have_count(1)
    forked = text_box(page).input_value()
    assert forked.startswith("The capital of France is" + written(page, 2) + word)
    expect(tokens(page).nth(2)).to_have_class(re.compile("forced"))
    expect(page.get_by_role("tabpanel")).to_contain_text(re.compile(r"cached"))

    tokens(page).nth(4).click()
    alternatives(page).nth(2).click()
    expect(forks(page)).to_have_count(2)
    expect(state(page)).to_have_text(OVER)
    forks(page).nth(1).click()
    expect(text_box(page)).to_have_value(forked)
    expect(forks(page)).to_have_count(1)
    press(page, "Undo")
    expect(text_box(page)).to_have_value(first)
    expect(forks(page)).to_have_count(0)
    expect(tokens(page)).to_have_count(12)


def completions(page: Page, count: int) -> None:
    """How many completions are written at once."""
    field = page.get_by_label("number input for Completions", exact=True)
    field.fill(str(count))
    field.blur()


def test_what_engineers_want(page: Page) -> None:
    answer_greedily(page, 24)
    disclose(page, "For engineers")
    page.get_by_role("textbox", name=re.compile("^Stop")).fill("15")
    text = generate(page, COUNTING)
    assert "14" in text
    assert "15" not in text

    clear(page)
    page.get_by_role("textbox", name=re.compile("^Stop")).fill("")
    page.get_by_role("textbox", name=re.compile("^Logit bias")).fill("' Paris' = -100")
    assert "Paris" not in generate(page, "The capital of France is")
    page.get_by_role("textbox", name=re.compile("^Logit bias")).fill("very much")
    press(page, "Continue")
    expect(state(page)).to_contain_text("'very much' is not of the form")

    # What is drawn by chance is as long as it may be where the model cannot end it.
    page.get_by_role("textbox", name=re.compile("^Logit bias")).fill("0 = -100\n2 = -100")
    set_sampling(page, "Temperature", 1)
    completions(page, 3)
    clear(page)
    best = generate(page, "My favourite animal is")
    others = page.locator("#completions button")
    expect(others).to_have_count(2)
    other = others.first.evaluate("button => button.lastChild.data")
    others.first.click()
    expect(text_box(page)).not_to_have_value(best)
    assert other in text_box(page).input_value()
    press(page, "Undo")
    expect(text_box(page)).to_have_value(best)

    page.get_by_role("textbox", name=re.compile("^Logit bias")).fill("")
    completions(page, 1)
    disclose(page, "For engineers")


def test_arabic_runs_from_the_right(page: Page) -> None:
    answer_greedily(page, 8)
    arabic = "ما هي عاصمة الإمارات؟ 123."
    generate(page, arabic)
    style = "element => getComputedStyle(element).direction"
    assert text_box(page).evaluate(style) == "rtl"
    assert page.locator("#token-view .tokens").evaluate(style) == "rtl"
    assert page.locator("#token-view .given").inner_text() == arabic
    # The beginning is at the right end of its line.
    right, left = page.locator("#token-view .tokens").evaluate(
        """element => {
          const range = document.createRange(), given = element.querySelector('.given').firstChild
          const at = i => {
            range.setStart(given, i)
            range.setEnd(given, i + 1)
            return range.getBoundingClientRect().x
          }
          return [at(0), at(4)]
        }"""
    )
    assert right > left


def test_clear_can_be_taken_back(page: Page) -> None:
    answer_greedily(page, 8)
    text = generate(page, "Once upon a time")
    press(page, "Clear")
    expect(text_box(page)).to_have_value("")
    press(page, "Restore")
    expect(text_box(page)).to_have_value(text)
    expect(tokens(page)).to_have_count(8)
    press(page, "Undo")
    expect(text_box(page)).to_have_value("Once upon a time")

    press(page, "Clear")
    back = page.get_by_role("tabpanel").get_by_role("button", name="Restore")
    expect(back).to_be_visible()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText('Pasted')")
    text_box(page).press("ControlOrMeta+v")
    expect(text_box(page)).to_have_value("Pasted")
    expect(back).to_be_hidden()
