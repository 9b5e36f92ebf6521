"""The Chat tab as its visitors use it."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

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
    reload,
    sampling,
    send,
    set_sampling,
    state,
    system_prompt,
    versions,
)
from .conftest import OpenPage

GREECE = "What is the capital of Greece?"
MARKDOWN = r"""
$$x^2 + y^2$$

where \(y\) is positive, for $5 or $6.

| Bird | km/h |
|---|---|
| Falcon | 389 |

```python
print("falcon")
```
"""
AS_WRITTEN = "def f(x):\n\tif x:\n\n        return 1   \n1) __init__ and 2*3*4 &amp; <script>window.run = 1</script>"
SEND_AND_TYPE = """(box, text) => {
  const enter = () => falcon.chat.send() // What Enter and Send do.
  enter()
  box.value = text
  box.dispatchEvent(new Event('input', {bubbles: true}))
  enter()
}"""
"""Sends what is in the box, and at once another text: faster than any answer."""
HOSTILE = """
<script>window.run = "script"</script>
<img src="data:," onerror="window.run = 'image'">
<details open ontoggle="window.run = 'details'">Details</details>
<a href="javascript:window.run = 'link'">A link</a>
"""


@pytest.fixture
def page(page: Page) -> Page:
    return ready(page)


def ready(page: Page) -> Page:
    open_tab(page, "Chat")
    answer_shortly(page)
    return page


def menu(page: Page) -> Locator:
    """The field that shows which conversation is open."""
    return page.get_by_role("combobox", name="Conversation", exact=True)


def choose_conversation(page: Page, name: str) -> None:
    menu(page).click()
    page.get_by_role("option", name=name).click()


def press_in_message(page: Page, name: str) -> None:
    """Presses one of the small buttons below the messages."""
    page.locator("#conversation").get_by_role("button", name=name, exact=True).click()


def download(page: Page, name: str) -> str:
    """The text of the file that a button has the browser save."""
    with page.expect_download() as saved:
        press(page, name)
    return Path(saved.value.path()).read_text()


def import_file(page: Page, path: Path, content: str) -> None:
    path.write_text(content)
    with page.expect_file_chooser() as chooser:
        press(page, "Import JSON")
    chooser.value.set_files(path)


def conversation(*contents: str) -> str:
    """A file with these messages of the visitor's and the model's in turn."""
    roles = ("user", "assistant") * len(contents)
    return json.dumps([{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)])


def notice(page: Page) -> Locator:
    """What the page says above the box about what was done last."""
    return page.locator("#chat-notice")


def test_enter_sends_and_the_focus_stays_in_the_box(page: Page) -> None:
    press(page, "Send")
    expect(notice(page)).to_contain_text("There is no message to answer")

    message_box(page).click()
    page.keyboard.type("What is the capital")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("of France?")
    expect(message_box(page)).to_have_value("What is the capital\nof France?")
    expect(question(page)).to_have_count(0)
    page.keyboard.press("Enter")
    expect(message_box(page)).to_have_value("")
    expect(message_box(page)).to_be_focused()
    expect(answer(page)).to_contain_text("Paris")
    expect(state(page)).to_have_text("Finished")
    expect(message_box(page)).to_be_focused()

    ask(page, "And the capital of Greece?")
    expect(answer(page).last).to_contain_text("Athens")

    press(page, "Undo")
    expect(question(page)).to_have_count(1)
    expect(answer(page)).to_have_count(1)
    expect(message_box(page)).to_have_value("And the capital of Greece?")
    press(page, "Clear")
    expect(question(page)).to_have_count(0)
    expect(state(page)).to_have_text("Nothing asked yet")
    press(page, "Bring back")
    expect(question(page)).to_have_count(1)
    expect(answer(page)).to_contain_text("Paris")
    expect(notice(page)).to_have_text("")


def test_retry_makes_a_version_and_continue_goes_on_with_it(page: Page) -> None:
    ask(page, QUESTION)
    expect(answer(page)).to_contain_text("Paris")
    expect(versions(page)).to_have_count(0)

    set_sampling(page, "Max new tokens", 3)
    press(page, "Retry")
    expect(versions(page)).to_contain_text("2/2")
    expect(state(page)).to_have_text("Stopped at the length limit")
    expect(answer(page)).not_to_contain_text("Paris")
    beginning = answer(page).inner_text()

    page.get_by_label("Answer 1: earlier version").click()
    expect(versions(page)).to_contain_text("1/2")
    expect(answer(page)).to_contain_text("Paris")
    page.get_by_label("Answer 1: later version").click()
    expect(answer(page)).to_have_text(beginning)

    set_sampling(page, "Max new tokens", 24)
    page.get_by_role("tabpanel").locator(".line").get_by_role("button", name="Continue").click()
    expect(answer(page)).to_have_text(re.compile(rf"^\s*{beginning}.*Paris"))
    expect(state(page)).to_have_text("Finished")
    expect(versions(page)).to_contain_text("2/2")


def test_an_edited_question_is_a_version_of_it(page: Page) -> None:
    ask(page, QUESTION)
    press_in_message(page, "Edit")
    page.locator("#conversation textarea").fill(GREECE)
    press_in_message(page, "Cancel")
    expect(question(page)).to_have_text(QUESTION)
    press_in_message(page, "Edit")
    page.locator("#conversation textarea").fill(GREECE)
    press_in_message(page, "Submit")
    expect(question(page)).to_have_text(GREECE)
    expect(answer(page)).to_contain_text("Athens")
    expect(versions(page)).to_contain_text("2/2")

    page.get_by_label("Question 1: earlier version").click()
    expect(question(page)).to_have_text(QUESTION)
    expect(answer(page)).to_contain_text("Paris")


def test_conversations_stay_in_the_browser(page: Page, open_page: OpenPage) -> None:
    ask(page, QUESTION)
    expect(menu(page)).to_have_value(QUESTION)
    press(page, "New")
    expect(question(page)).to_have_count(0)
    page.get_by_role("button", name=EXAMPLE).click()
    expect(answer(page)).to_contain_text("Tokyo")
    expect(menu(page)).to_have_value(EXAMPLE)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    choose_conversation(page, QUESTION)
    expect(answer(page)).to_contain_text("Paris")

    reload(page)
    expect(question(page)).to_have_text(QUESTION)
    expect(answer(page)).to_contain_text("Paris")

    same_browser = page.context.new_page()
    same_browser.goto(page.url)
    opened(same_browser)
    open_tab(same_browser, "Chat")
    choose_conversation(same_browser, QUESTION)
    expect(question(same_browser)).to_have_text(QUESTION)
    press(same_browser, "Delete")
    expect(question(same_browser)).to_have_text(EXAMPLE)
    press(same_browser, "Bring back")
    expect(question(same_browser)).to_have_text(QUESTION)
    for left in (EXAMPLE, "New conversation"):
        press(same_browser, "Delete")
        expect(menu(same_browser)).to_have_value(left)
    expect(question(same_browser)).to_have_count(0)

    other_browser = open_page()
    open_tab(other_browser, "Chat")
    expect(menu(other_browser)).to_have_value("New conversation")
    expect(question(other_browser)).to_have_count(0)


def test_who_answers_and_how(page: Page) -> None:
    ask(page, "Who are you?")
    nobody = answer(page).inner_text()
    disclose(page, "Who answers, and how")
    page.get_by_role("combobox", name="Persona").click()
    page.get_by_role("option", name="A pirate").click()
    expect(system_prompt(page)).to_have_value("You are a pirate. Talk like one.")
    press(page, "Retry")
    expect(versions(page)).to_contain_text("2/2")
    assert answer(page).inner_text() != nobody

    system_prompt(page).fill("You are a parrot.")
    press(page, "New")
    expect(question(page)).to_have_count(0)
    expect(system_prompt(page)).to_have_value(STARTER.system)
    page.get_by_label("Start the reply with").fill("Certainly: the capital")
    ask(page, QUESTION)
    expect(answer(page)).to_have_text(re.compile(r"^\s*Certainly: the capital of France is Paris"))

    choose_conversation(page, "Who are you?")
    expect(system_prompt(page)).to_have_value("You are a parrot.")
    reload(page)
    expect(question(page)).to_have_text("Who are you?")
    disclose(page, "Who answers, and how")
    expect(system_prompt(page)).to_have_value("You are a parrot.")
    press(page, "Use the model's own")
    expect(system_prompt(page)).to_have_value(STARTER.system)
    expect(page.get_by_role("button", name="Use the model's own")).to_be_hidden()


def test_a_conversation_travels_as_a_file(page: Page, open_page: OpenPage, tmp_path: Path) -> None:
    ask(page, QUESTION)
    press_in_message(page, "Like")
    disclose(page, "Keep this conversation")
    exported = download(page, "Export as JSON")
    reply = answer(page).inner_text()
    written = [(message["content"], message["feedback"]) for message in json.loads(exported)["messages"]]
    assert written == [(QUESTION, None), (reply, "Like")]
    read = download(page, "Download as Markdown")
    heading = f"# {QUESTION}"
    assert read == f"{heading}\n\n**You**\n\n```text\n{QUESTION}\n```\n\n**Model** (liked)\n\n{reply}\n"

    other = ready(open_page())
    disclose(other, "Keep this conversation")
    import_file(other, tmp_path / "conversation.json", exported)
    expect(question(other)).to_have_text(QUESTION)
    expect(answer(other)).to_have_text(reply)
    assert download(other, "Export as JSON") == exported

    import_file(other, tmp_path / "broken.json", exported[:-20])
    expect(state(other)).to_contain_text("The file is not JSON")
    expect(question(other)).to_have_text(QUESTION)


def test_a_link_opens_the_chat_as_it_was_set_up(page: Page, open_page: OpenPage) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    disclose(page, "Who answers, and how")
    system_prompt(page).fill("You are a parrot & a poet.")
    message_box(page).fill("100% of #1?")
    url = link(page)
    assert page.evaluate("navigator.clipboard.readText()") == url

    other = open_page(url)
    for _ in range(2):
        expect(message_box(other)).to_have_value("100% of #1?")
        expect(sampling(other, "Max new tokens")).to_have_value("24")
        expect(sampling(other, "Temperature")).to_have_value("0")
        disclose(other, "Who answers, and how")
        expect(system_prompt(other)).to_have_value("You are a parrot & a poet.")
        menu(other).click()
        expect(other.get_by_role("option")).to_have_count(1)
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
    expect(question(page)).to_have_text("Hi")
    expect(answer(page)).to_have_count(1)
    expect(message_box(page)).to_have_value("")
    disclose(page, "Who answers, and how")
    expect(system_prompt(page)).to_have_value("You are a parrot.")


def test_what_is_written_stays_what_it_is(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    set_sampling(page, "Max new tokens", 2)
    ask(page, AS_WRITTEN)
    assert question(page).text_content() == AS_WRITTEN
    page.locator(".user-row").get_by_role("button", name="Copy").click()
    expect(page.locator(".user-row .done")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()") == AS_WRITTEN

    press_in_message(page, "Edit")
    expect(page.get_by_label("Edited message")).to_have_value(AS_WRITTEN)
    page.keyboard.press("Enter")
    expect(versions(page)).to_contain_text("2/2")
    over(page)
    assert question(page).text_content() == AS_WRITTEN
    disclose(page, "Keep this conversation")
    exported = json.loads(download(page, "Export as JSON"))["messages"]
    assert [message["content"] for message in exported if message["role"] == "user"] == [AS_WRITTEN] * 2
    assert page.evaluate("window.run") is None

    message_box(page).evaluate(
        "box => { box.value = 'Hi \\ud83d'; box.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    message_box(page).press("Enter")
    expect(question(page).last).to_have_text("Hi \ufffd")
    over(page)
    expect(answer(page)).to_have_count(2)


def test_what_is_typed_meanwhile_stays(page: Page) -> None:
    message_box(page).fill(QUESTION)
    message_box(page).evaluate(SEND_AND_TYPE, "And of Greece?")
    expect(answer(page)).to_contain_text("Paris")
    over(page)
    expect(message_box(page)).to_have_value("And of Greece?")
    expect(question(page)).to_have_count(1)

    press_in_message(page, "Edit")
    page.get_by_label("Edited message").fill(GREECE)
    message_box(page).press("Enter")
    expect(question(page)).to_have_count(2)
    over(page)
    expect(page.get_by_label("Edited message")).to_have_value(GREECE)
    page.keyboard.press("Escape")
    message_box(page).fill("not sent yet")
    reload(page)
    expect(message_box(page)).to_have_value("not sent yet")


def test_a_question_that_fails_leaves_no_trace_but_its_text(page: Page) -> None:
    ask(page, QUESTION)
    too_long = "falcon " * 4000
    send(page, too_long)
    expect(state(page)).to_contain_text("tokens")
    expect(message_box(page)).to_have_value(too_long)
    expect(question(page)).to_have_count(1)

    message_box(page).fill("another")
    press_in_message(page, "Edit")
    page.get_by_label("Edited message").fill(too_long)
    page.keyboard.press("Enter")
    expect(notice(page)).to_contain_text("The new wording was not answered.")
    expect(question(page)).to_have_text(QUESTION)
    expect(answer(page)).to_contain_text("Paris")
    expect(versions(page)).to_have_count(0)
    expect(message_box(page)).to_have_value("another")
    press(page, "Edit it again")
    expect(page.get_by_label("Edited message")).to_have_value(too_long)
    press_in_message(page, "Cancel")

    message_box(page).fill(too_long)
    message_box(page).evaluate(SEND_AND_TYPE, "typed meanwhile")
    expect(notice(page)).to_contain_text("was not answered")
    expect(message_box(page)).to_have_value("typed meanwhile")
    press(page, "Put it into the box")
    expect(message_box(page)).to_have_value(f"{too_long}\n\ntyped meanwhile")
    message_box(page).fill("")
    ask(page, "And the capital of Greece?")
    expect(answer(page).last).to_contain_text("Athens")
    reload(page)
    expect(question(page)).to_have_count(2)


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
    expect(question(page)).to_have_text(QUESTION)
    choose_conversation(page, GREECE)
    expect(answer(page)).to_contain_text("Athens")
    menu(other).click()
    expect(other.get_by_role("option")).to_have_count(2)


def test_what_no_longer_fits_the_context_is_said(page: Page, tmp_path: Path) -> None:
    disclose(page, "Keep this conversation")
    long = "falcon " * 590
    import_file(page, tmp_path / "long.json", conversation(long, long, long, long))
    expect(answer(page)).to_have_count(2)
    ask(page, QUESTION)
    expect(page.get_by_role("tabpanel")).to_contain_text("the 2 oldest messages were left out of this answer")


def test_answers_are_markdown_questions_are_not_and_scripts_are_not_run(page: Page, tmp_path: Path) -> None:
    disclose(page, "Keep this conversation")
    import_file(page, tmp_path / "markdown.json", conversation("How?", MARKDOWN, HOSTILE, HOSTILE, MARKDOWN, "Yes."))
    first = answer(page).first
    expect(first.locator("math")).to_have_count(2)
    expect(first).to_contain_text("for $5 or $6")
    expect(first.get_by_role("cell", name="389")).to_be_visible()
    expect(first.locator("pre")).to_have_text('print("falcon")\n')
    expect(first.get_by_role("button", name="Copy")).to_be_visible()
    assert question(page).nth(1).text_content() == HOSTILE
    assert question(page).nth(2).text_content() == MARKDOWN
    # Whatever would have run has had its chance when something behind it has been drawn and pressed.
    page.locator(".bot-row").last.get_by_role("button", name="Like", exact=True).click()
    expect(page.locator(".bot-row [aria-pressed=true]")).to_have_count(1)
    assert page.evaluate("window.run") is None
    assert page.locator("#conversation :is(script, img, a[href^=javascript])").count() == 0


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
