"""The page in the languages of its visitors."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from ui import link, words

from ..served_app import ServedApp
from .actions import opened
from .conftest import PATIENCE_MS, Profiles, new_page

TRANSLATIONS = [code for code in words.NAMES if code != words.DEFAULT]
SEEN = """root => {
  const WRITTEN = '.chips, .answer, .tokens, .word, script, style'
  const seen = []
  const shown = element => element.checkVisibility() && !element.closest(WRITTEN)
  const nodes = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT)
  for (let at = nodes.currentNode; at; at = nodes.nextNode()) {
    if (!shown(at)) continue
    seen.push(at.innerText ?? '', ...['placeholder', 'title', 'aria-label'].map(name => at.getAttribute(name) ?? ''))
    const own = [...at.childNodes].filter(node => node.nodeType === Node.TEXT_NODE)
    seen.push(...own.map(node => node.textContent))
  }
  return [...new Set(seen.map(text => text.trim()).filter(Boolean))]
}"""
"""What there is to read of the page, without what people or models have written."""


class Visitor:
    """Who prefers a language."""

    def __init__(self, profile: BrowserContext, language: str, errors: list[str]) -> None:
        self._profile, self._language, self._errors = profile, language, errors

    def open(self, url: str) -> Page:
        page = new_page(self._profile, self._errors)
        devtools = self._profile.new_cdp_session(page)
        agent = {"userAgent": page.evaluate("navigator.userAgent"), "acceptLanguage": self._language}
        devtools.send("Emulation.setUserAgentOverride", agent)
        devtools.send("Emulation.setLocaleOverride", {"locale": self._language})
        page.goto(url)
        opened(page)
        return page


@pytest.fixture
def visitor(request: pytest.FixtureRequest, profiles: Profiles, console_errors: list[str]) -> Iterator[Visitor]:
    profile = profiles.take()
    yield Visitor(profile, request.param, console_errors)
    profiles.give_back(profile)
    assert console_errors == []


def show(page: Page, tab: str) -> None:
    """Opens a tab, whatever it is called."""
    button = page.locator(f"[role=tab][data-tab-id={tab}]")
    button.click()
    expect(button).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tabpanel").locator("button:visible").first).to_be_visible()


def generate(page: Page, tokens: int = 8) -> None:
    """Has the model go on with a text, for so many tokens and no more."""
    show(page, "generate")
    page.locator("#generate-text textarea").fill("1, 2, 3, 4, 5, 6, 7, 8,")
    page.locator("#generate-start").click()
    expect(page.get_by_role("tabpanel").locator(".line.done, .line.paused")).to_be_visible()


def english(code: str) -> list[re.Pattern[str]]:
    """The English texts that a language has other words for."""
    patterns = []
    for key, said in words.dictionary(words.DEFAULT).items():
        theirs = words.dictionary(code)[key]
        for text in [said] if isinstance(said, str) else said.values():
            telling = "{" not in text or len(re.sub(r"\{\w+\}|\W", "", text)) > 5
            if telling and text not in ([theirs] if isinstance(theirs, str) else theirs.values()):
                patterns.append(re.compile(re.sub(r"\\\{\w+\\\}", ".+", re.escape(text))))
    return patterns


@pytest.mark.parametrize(("visitor", "code"), [(code, code) for code in TRANSLATIONS], indirect=["visitor"])
def test_nothing_stays_english(visitor: Visitor, code: str, app: ServedApp) -> None:
    page = visitor.open(app.url)
    expect(page.locator("html")).to_have_attribute("lang", code)
    expect(page.locator("html")).to_have_attribute("dir", "rtl" if code == "ar" else "ltr")
    theirs, foreign = words.dictionary(code), english(code)

    def look(title: str) -> None:
        expect(page.get_by_text(str(theirs[title]), exact=True).locator("visible=true").first).to_be_visible()
        seen = page.locator("body").evaluate(SEEN)
        assert [text for text in seen if any(pattern.fullmatch(text) for pattern in foreign)] == []
        assert "⟦" not in "".join(seen)

    page.locator("[data-do=settings]").click()
    for tab in link.TABS:
        show(page, tab)
        if tab == "generate":
            generate(page)
        for heading in reversed(page.locator("button.label-wrap:not(.open):visible").all()):
            heading.click()
        look(f"tabs.{tab}")
    page.locator(".model[popovertarget=models]").click()
    expect(page.locator("#model-details li").first).to_be_visible()
    look("models.in_use")
    page.keyboard.press("Escape")
    page.locator(".wide[popovertarget=about]").click()
    look("about.here")
    page.keyboard.press("Escape")
    page.locator("[popovertarget=more]").click()
    look("keys.keys")
    page.locator("#more [popovertarget=keys]").click()
    look("keys.break")


@pytest.mark.parametrize("visitor", ["ar"], indirect=True)
def test_arabic_runs_from_the_right(visitor: Visitor, app: ServedApp) -> None:
    page = visitor.open(app.url)
    show(page, "generate")
    left, right = page.locator("#generate-retry"), page.locator("#generate-start")
    boxes = [element.bounding_box() for element in (left, right)]
    assert boxes[0]
    assert boxes[1]
    assert boxes[0]["x"] < boxes[1]["x"]
    for selector in ("#generate-text", "#generate-text [data-testid=block-info]", ".hint", ".line"):
        element = page.get_by_role("tabpanel").locator(selector).first
        assert element.evaluate("element => getComputedStyle(element).direction") == "rtl", selector
    # What people write has a direction of its own.
    box = page.locator("#generate-text textarea")
    box.fill("Once upon a time")
    assert box.evaluate("element => getComputedStyle(element).direction") == "ltr"
    box.fill("كان يا ما كان")
    assert box.evaluate("element => getComputedStyle(element).direction") == "rtl"


@pytest.mark.parametrize("visitor", ["en-GB"], indirect=True)
def test_a_language_that_was_chosen_stays(visitor: Visitor, app: ServedApp) -> None:
    page = visitor.open(f"{app.url}/#tab=generate&text=Once")
    start = page.locator("#generate-start")
    expect(start).to_have_text("Generate")
    page.locator("[popovertarget=more]").click()
    page.locator("#language").select_option("fr")
    expect(start).to_have_text("Générer")
    expect(page).to_have_url(f"{app.url}/?lang=fr#tab=generate&text=Once")
    assert page.locator("#generate-text textarea").input_value() == "Once"
    assert page.evaluate("[document.documentElement.lang, navigator.language]") == ["fr", "fr"]
    page.reload()
    expect(start).to_have_text("Générer")
    # The page as it is opened without anything in its address, tomorrow.
    again = visitor.open(app.url)
    show(again, "generate")
    expect(again.locator("#generate-start")).to_have_text("Générer")
    expect(again).to_have_url(re.compile(r"\?lang=fr"))


@pytest.mark.parametrize("visitor", ["en-GB"], indirect=True)
def test_an_answer_is_told_of_in_the_language_of_the_page(visitor: Visitor, app: ServedApp) -> None:
    page = visitor.open(f"{app.url}/?lang=de")
    generate(page)
    line = page.get_by_role("tabpanel").locator(".line")
    expect(line).to_contain_text(
        re.compile(r"Prefill \d+ Tokens.*Decode \d+.*Erstes Token \d,\d\d s.*Kontext \d+ von 2\.048")
    )
    expect(page.locator("#generate-start")).to_have_text("Fortsetzen")
    expect(page.locator("#token-view .summary")).to_contain_text(re.compile(r"Im Mittel \d,\d\d Bit"))
    # Also while its events run in threads of their own.
    show(page, "instruct")
    page.locator("#context textarea").fill("Wort " * 1000)
    expect(page.locator("#context-size")).to_contain_text(re.compile(r"\d\.\d{3} Tokens"))


def test_the_api_is_english_and_without_marks(app: ServedApp) -> None:
    """Whoever asks for it."""

    def get(path: str, language: str) -> str:
        headers = {"accept-language": language}
        return httpx.get(app.url + path, headers=headers, timeout=PATIENCE_MS, trust_env=False).text

    for path in ("/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/mcp/schema"):
        assert get(path, "fr") == get(path, "en")
        assert "⟦" not in get(path, "fr")
    for code in words.NAMES:
        page = get("/", code)
        assert "⟦" not in page
        assert f'lang="{code}"' in page
        assert "⟦" not in get("/config", code)
    assert "L’audace du choix" in get("/", "fr-CH")
    assert "L’audace du choix" not in get("/", "it")
