"""What stands around a conversation: the panel, what can be done with an answer, files, prompts, links and keys."""

import re
import zlib
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .actions import (
    QUESTION,
    answer,
    ask,
    disclose,
    message_box,
    open_settings,
    opened,
    over,
    press,
    question,
    reload,
    system_prompt,
    toast,
    versions,
)
from .chat_actions import (
    GREECE,
    begin_anew,
    choose_conversation,
    conversation,
    conversations,
    import_file,
    notice,
    open_conversation,
    press_in_message,
)
from .conftest import OpenPage

SPEAKS = """
window.spoken = []
speechSynthesis.speak = words => spoken.push(words)
speechSynthesis.cancel = () => spoken.at(-1)?.onend?.()
"""
SLOW_LINE = """() => {
  window.quickly = window.fetch
  window.fetch = async (...request) => {
    await new Promise(done => setTimeout(done, 500))
    return quickly(...request)
  }
}"""


def packed(content: str) -> str:
    """A text as a link holds it (RFC 1951, and RFC 4648 without padding)."""
    return urlsafe_b64encode(zlib.compress(content.encode(), wbits=-15)).decode().rstrip("=")


DAMAGED = (
    "damaged",
    packed("no JSON"),
    packed('{"messages": 7}'),
    packed('{"messages": [null], "current": 1}'),
    packed('{"messages": [{"content": 3}], "system": {}}'),
    packed('{"messages": [{"id": 1, "parent": 1, "role": "user", "content": "round"}], "current": 1}'),
    packed('"' + "x" * 1_000_000),
)
"""What a link may hold that is no conversation."""
TALKS = {
    "falcon-conversation:a": ("Today's falcons", 0),
    "falcon-conversation:b": ("Yesterday's owls", 1),
    "falcon-conversation:c": ("Last week's eagles", 4),
    "falcon-conversation:d": ("Last month's kites", 20),
    "falcon-conversation:e": ("Ancient ravens", 400),
}
"""Conversations by their keys in the browser's storage: titles, and how many days ago each was changed."""


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The tab in one visit, with a new conversation and short answers."""
    return begin_anew(shared_page)


def in_view(page: Page, selector: str) -> bool:
    """Whether all of an element is within the window."""
    box = page.locator(selector).bounding_box()
    size = page.viewport_size
    assert size
    return box is not None and box["y"] >= 0 and box["y"] + box["height"] <= size["height"]


def test_the_conversation_comes_first(open_page: OpenPage) -> None:
    """What a new visitor sees without scrolling, on a small desk and on a phone."""
    page = open_page(width=1280, height=720)
    for width, height in ((1280, 720), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        expect(page.get_by_role("tab", name="Chat")).to_have_attribute("aria-selected", "true")
        page.wait_for_function("width => innerWidth === width", arg=width)
        assert in_view(page, "#chat-message")
        assert in_view(page, "#chat-send")
        bar = page.locator("#bar").bounding_box()
        assert bar
        assert bar["height"] <= 56
    expect(page.locator("#sentence")).to_have_text(re.compile("Now: .*-million-parameter starter on this machine"))


def test_the_panel_finds_names_and_deletes(open_page: OpenPage) -> None:
    page = open_page()
    kept = "([key, title, days]) => localStorage.setItem(key, JSON.stringify({changed: Date.now() - days * 864e5, "
    kept += "conversation: {id: key.split(':')[1], system: null, name: '', title, current: 1, messages: "
    kept += "[{id: 1, parent: null, role: 'user', content: `${title} and a secret word`, feedback: null}]}}))"
    for key, (title, days) in TALKS.items():
        page.evaluate(kept, [key, title, days])
    reload(page)
    expect(conversations(page)).to_have_text(["New conversation", *(title for title, _ in TALKS.values())])
    groups = page.locator("#conversations h2")
    expect(groups).to_have_text(
        ["Today", "Yesterday", "Previous 7 days", "Previous 30 days", re.compile(r"\w+ 20\d\d")]
    )

    search = page.get_by_role("searchbox", name="Search conversations")
    search.fill("OWLS")
    expect(conversations(page)).to_have_text(["Yesterday's owls"])
    search.fill("secret word")
    expect(conversations(page)).to_have_count(len(TALKS))
    search.fill("nowhere")
    expect(page.locator("#conversations nav")).to_have_text("Nothing found.")
    search.fill("")

    page.evaluate(SLOW_LINE)
    for title in ("Today's falcons", "Yesterday's owls"):  # The second before the first is there.
        choose_conversation(page, title)
    expect(open_conversation(page)).to_have_text("Yesterday's owls")
    expect(question(page)).to_have_text(["Yesterday's owls and a secret word"])
    page.evaluate("() => { window.fetch = window.quickly }")

    choose_conversation(page, "Ancient ravens")
    expect(question(page)).to_have_text(["Ancient ravens and a secret word"])
    press(page, "Rename")
    page.get_by_label("New title").fill("Les corbeaux")
    page.keyboard.press("Enter")
    expect(open_conversation(page)).to_have_text("Les corbeaux")
    reload(page)
    expect(open_conversation(page)).to_have_text("Les corbeaux")

    press(page, "Delete")
    expect(toast(page)).to_contain_text("Conversation deleted.")
    expect(conversations(page)).to_have_count(len(TALKS) - 1)
    toast(page).get_by_role("button", name="Restore").click()
    expect(open_conversation(page)).to_have_text("Les corbeaux")

    page.set_viewport_size({"width": 390, "height": 844})
    expect(conversations(page).first).to_be_hidden()
    page.get_by_role("button", name="Conversations").click()
    choose_conversation(page, "Last month's kites")
    expect(conversations(page).first).to_be_hidden()
    expect(question(page)).to_have_text(["Last month's kites and a secret word"])
    page.get_by_role("button", name="Conversations").click()
    page.keyboard.press("Escape")
    expect(conversations(page).first).to_be_hidden()


def test_another_answer_and_a_conversation_of_its_own(page: Page) -> None:
    ask(page, QUESTION)
    press_in_message(page, "Regenerate")
    expect(versions(page)).to_contain_text("2/2")
    expect(notice(page)).to_contain_text("at temperature 0 it cannot differ")
    over(page)
    press_in_message(page, "Regenerate with…")
    page.get_by_role("menuitem", name="Temperature 1.2").click()
    expect(versions(page)).to_contain_text("3/3")
    expect(page.locator(".by")).to_have_text("Temperature 1.2")
    over(page)

    message_box(page).fill(GREECE)  # What is sent before the earlier answer is there waits for it.
    page.get_by_label("Answer 1: earlier version").evaluate("button => { button.click(); falcon.chat.send() }")
    expect(answer(page)).to_contain_text(["Paris", "Athens"])
    over(page)
    expect(versions(page).first).to_contain_text("2/3")
    before = conversations(page).count()
    page.locator("#conversation").get_by_role("button", name="Fork").first.click()
    expect(question(page)).to_have_text([QUESTION])
    expect(answer(page)).to_contain_text(["Paris"])
    expect(conversations(page)).to_have_count(before + 1)
    toast(page).get_by_role("button", name="Back to the original").click()
    expect(question(page)).to_have_count(2)


def test_an_answer_is_read_aloud(page: Page, tmp_path: Path) -> None:
    disclose(page, "Save or share")
    import_file(page, tmp_path / "talk.json", conversation("Who flies?", "**Falcons** fly.", "And?", "الصقور تطير"))
    disclose(page, "Save or share")
    page.evaluate(SPEAKS)
    aloud = page.get_by_role("button", name="Read aloud")
    aloud.first.click()
    expect(aloud.first).to_have_attribute("aria-pressed", "true")
    aloud.first.click()
    expect(aloud.first).to_have_attribute("aria-pressed", "false")
    aloud.last.click()
    assert page.evaluate("spoken.map(({text, lang}) => [text.trim(), lang])") == [
        ["Falcons fly.", ""],
        ["الصقور تطير", "ar"],
    ]


def test_files_go_with_a_message(page: Page, tmp_path: Path) -> None:
    fair = tmp_path / "fair.md"
    fair.write_text("# The Falcon Fair\n\nIt takes place in Dubai.")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with page.expect_file_chooser() as chooser:
        page.locator("#attach").click()
    chooser.value.set_files([fair, tmp_path / "picture.png"])
    chip = page.locator("#attached .chip")
    expect(chip).to_have_text(re.compile(r"fair\.md · \d+ tokens"))
    expect(page.get_by_role("tabpanel")).to_contain_text("picture.png cannot be read")
    expect(page.locator("#message-size")).to_have_text(re.compile(r"[1-9]\d* \+ \d+ of 2,048 tokens"))
    ask(page, "Where does the fair take place?")
    expect(answer(page)).to_contain_text(["Dubai"])
    expect(chip).to_have_count(0)
    attached = page.locator("#conversation .attachment")
    expect(attached.locator("summary")).to_contain_text("fair.md")
    expect(attached.locator("pre")).to_be_hidden()
    attached.locator("summary").click()
    expect(attached.locator("pre")).to_contain_text("It takes place in Dubai.")
    message_box(page).fill("word " * 3000)
    expect(page.locator("#message-size .warning")).to_contain_text("of 2,048 tokens")
    message_box(page).fill("")


def test_prompts_of_ones_own_are_kept(page: Page) -> None:
    open_settings(page)
    page.get_by_role("button", name="Save this prompt").click()
    expect(toast(page)).to_contain_text("There is no prompt of your own")
    persona = page.get_by_role("combobox", name="Persona")
    expect(persona).to_have_value("The model's own")
    system_prompt(page).fill("You are a parrot, and repeat each question.")
    expect(persona).to_have_value("")
    page.get_by_role("button", name="Save this prompt").click()
    expect(page.get_by_role("button", name="Forget this prompt")).to_be_visible()
    expect(persona).to_have_value(re.compile("★ You are a parrot"))
    # Another one that begins alike is told apart.
    system_prompt(page).fill("You are a parrot, and repeat each question twice.")
    page.get_by_role("button", name="Save this prompt").click()
    press(page, "New")
    expect(persona).to_have_value("The model's own")
    reload(page)
    open_settings(page)
    for more in (" (2)", ""):
        persona.click()
        page.get_by_role("option", name=re.compile(rf"★ You are a parrot.*…{re.escape(more)}$")).click()
        twice = "" if more else " twice"
        expect(system_prompt(page)).to_have_value(f"You are a parrot, and repeat each question{twice}.")
        page.get_by_role("button", name="Forget this prompt").click()
        expect(page.get_by_role("button", name="Forget this prompt")).to_be_hidden()
    persona.click()
    expect(page.get_by_role("option", name="A pirate")).to_be_visible()
    expect(page.get_by_role("option", name="★")).to_have_count(0)
    page.keyboard.press("Escape")


def test_a_conversation_travels_in_a_link(page: Page, open_page: OpenPage, tmp_path: Path) -> None:
    ask(page, f"{QUESTION} 🦅 العاصمة")
    disclose(page, "Save or share")
    press(page, "Link to the conversation")
    url = page.locator(".linked a").get_attribute("href") or ""
    other = open_page(url)
    expect(question(other)).to_have_text(f"{QUESTION} 🦅 العاصمة")
    expect(answer(other)).to_contain_text("Paris")
    for number, held in enumerate(DAMAGED):
        other.goto(f"{url.partition('#')[0]}?{number}#tab=chat&conversation={held}")
        opened(other)
        expect(message_box(other)).to_be_visible()
        expect(question(other)).to_have_count(0)

    varied = " ".join(str(n * n * n) for n in range(9000))
    import_file(page, tmp_path / "long.json", conversation(varied, "Yes."))
    expect(answer(page)).to_have_text(["Yes."])
    press(page, "Link to the conversation")
    expect(page.locator(".linked")).to_contain_text("Export the conversation as a file.")
    disclose(page, "Save or share")


def test_keys_do_what_their_list_says(page: Page) -> None:
    page.locator("#talk").click()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_contain_text("Search conversations")
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("/")
    expect(message_box(page)).to_be_focused()
    page.keyboard.type("a / and a ?")
    expect(message_box(page)).to_have_value("a / and a ?")
    message_box(page).fill("")
    ask(page, QUESTION)
    page.keyboard.press("Control+Shift+O")
    expect(question(page)).to_have_count(0)
    expect(message_box(page)).to_be_focused()
    page.keyboard.press("Alt+ArrowDown")
    expect(question(page)).to_have_text([QUESTION])
    page.keyboard.press("Control+k")
    expect(page.get_by_role("searchbox", name="Search conversations")).to_be_focused()


def test_the_page_is_dressed_as_the_visitor_likes(page: Page) -> None:
    page.emulate_media(color_scheme="light")
    for look, dark in (("dark", 1), ("light", 0), ("system", 0)):
        page.get_by_role("button", name="More").first.click()
        page.get_by_label("Appearance").select_option(look)
        expect(page.locator("body.dark")).to_have_count(dark)
        page.keyboard.press("Escape")
        reload(page)
        expect(page.locator("body.dark")).to_have_count(dark)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body.dark")).to_have_count(1)
    page.emulate_media(color_scheme="light")


def test_the_page_explains_itself(page: Page) -> None:
    page.get_by_role("button", name="About").first.click()
    about = page.get_by_role("dialog", name="About this page")
    expect(about).to_contain_text("Everything here runs on the processor of one ordinary computer")
    expect(about.locator(".journey li")).to_have_count(10)
    expect(about.get_by_role("row", name="Decode, one answer")).to_contain_text(re.compile(r"\d+ tokens per second"))
    expect(about.get_by_role("row", name="Memory of the engine")).to_contain_text(re.compile(r"\d.* GB"))
    expect(about.get_by_role("link", name="Apache-2.0")).to_be_visible()
    about.get_by_role("button", name="Close").click()
    expect(about).to_be_hidden()
