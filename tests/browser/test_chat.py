"""The Chat tab as its visitors use it, in one conversation."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .actions import (
    QUESTION,
    answer,
    ask,
    disclose,
    fold,
    message_box,
    over,
    press,
    question,
    regenerate,
    reload,
    send,
    set_sampling,
    state,
    versions,
)
from .chat_actions import (
    GREECE,
    begin_anew,
    conversation,
    download,
    import_file,
    notice,
    press_in_message,
)

DIAGRAM = "```mermaid\ngraph LR; egg-->falcon\n```\n\n```mermaid\nno diagram <b>\n```\n"
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
SEND_AND_KEEP = SEND_AND_TYPE.replace("enter()\n}", "}")
"""The same, but the other text stays in the box."""
HOSTILE = """
<script>window.run = "script"</script>
<img src="data:," onerror="window.run = 'image'">
<details open ontoggle="window.run = 'details'">Details</details>
<a href="javascript:window.run = 'link'">A link</a>
"""


@pytest.fixture
def page(shared_page: Page) -> Page:
    """The tab in one visit, with a new conversation and short answers."""
    page = begin_anew(shared_page)
    fold(page, "Save or share")
    expect(answer(page)).to_have_count(0)
    expect(versions(page)).to_have_count(0)
    expect(notice(page)).to_have_text("")
    return page


def test_enter_sends_and_the_focus_stays_in_the_box(page: Page) -> None:
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    message_box(page).press("Enter")
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
    expect(answer(page)).to_contain_text(["Paris"])
    expect(state(page)).to_have_text("Finished")
    expect(message_box(page)).to_be_focused()

    ask(page, "And the capital of Greece?")
    expect(answer(page).last).to_contain_text("Athens")

    press(page, "Undo")
    expect(question(page)).to_have_count(1)
    expect(answer(page)).to_have_count(1)
    expect(message_box(page)).to_have_value("And the capital of Greece?")
    disclose(page, "Save or share")
    press(page, "Clear")
    expect(question(page)).to_have_count(0)
    expect(state(page)).to_have_text("Nothing asked yet")
    press(page, "Restore")
    expect(question(page)).to_have_count(1)
    expect(answer(page)).to_contain_text(["Paris"])
    expect(notice(page)).to_have_text("")


def test_retry_makes_a_version_and_continue_goes_on_with_it(page: Page) -> None:
    ask(page, QUESTION)
    expect(answer(page)).to_contain_text(["Paris"])
    expect(versions(page)).to_have_count(0)

    set_sampling(page, "Max new tokens", 3)
    regenerate(page)
    expect(versions(page)).to_contain_text("2/2")
    expect(state(page)).to_have_text("Stopped at the length limit")
    expect(answer(page)).not_to_contain_text("Paris")
    beginning = answer(page).inner_text()

    page.get_by_label("Answer 1: earlier version").click()
    expect(versions(page)).to_contain_text("1/2")
    expect(answer(page)).to_contain_text(["Paris"])
    page.get_by_label("Answer 1: later version").click()
    expect(answer(page)).to_have_text([beginning])

    set_sampling(page, "Max new tokens", 24)
    page.get_by_role("tabpanel").locator(".line").get_by_role("button", name="Continue").click()
    expect(answer(page)).to_have_text([re.compile(rf"^\s*{beginning}.*Paris")])
    expect(state(page)).to_have_text("Finished")
    expect(versions(page)).to_contain_text("2/2")


def test_an_edited_question_is_a_version_of_it(page: Page) -> None:
    ask(page, QUESTION)
    press_in_message(page, "Edit")
    page.locator("#conversation textarea").fill(GREECE)
    press_in_message(page, "Cancel")
    expect(question(page)).to_have_text([QUESTION])
    press_in_message(page, "Edit")
    page.locator("#conversation textarea").fill(GREECE)
    press_in_message(page, "Submit")
    expect(question(page)).to_have_text([GREECE])
    expect(answer(page)).to_contain_text(["Athens"])
    expect(versions(page)).to_contain_text("2/2")

    page.get_by_label("Question 1: earlier version").click()
    expect(question(page)).to_have_text([QUESTION])
    expect(answer(page)).to_contain_text(["Paris"])


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
    disclose(page, "Save or share")
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


def test_what_is_sent_meanwhile_waits_and_what_is_typed_stays(page: Page) -> None:
    message_box(page).fill(QUESTION)
    message_box(page).evaluate(SEND_AND_TYPE, "And of Greece?")
    expect(answer(page).first).to_contain_text("Paris")
    expect(question(page).last).to_have_text("And of Greece?")
    expect(answer(page).last).to_contain_text("Athens")
    over(page)
    expect(message_box(page)).to_have_value("")

    press(page, "Undo")
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
    expect(question(page)).to_have_text([QUESTION])
    expect(answer(page)).to_contain_text(["Paris"])
    expect(versions(page)).to_have_count(0)
    expect(message_box(page)).to_have_value("another")
    press(page, "Edit it again")
    expect(page.get_by_label("Edited message")).to_have_value(too_long)
    press_in_message(page, "Cancel")

    message_box(page).fill(too_long)
    message_box(page).evaluate(SEND_AND_TYPE, "typed meanwhile")
    expect(message_box(page)).to_have_value(too_long)
    waiting = page.locator("#attached .chip.message")
    expect(waiting).to_contain_text("Next: typed meanwhile")
    waiting.get_by_role("button", name="Remove from the queue").click()
    expect(message_box(page)).to_have_value(f"typed meanwhile\n\n{too_long}")
    expect(waiting).to_have_count(0)

    message_box(page).fill(too_long)
    message_box(page).evaluate(SEND_AND_KEEP, "kept meanwhile")
    expect(notice(page)).to_contain_text("was not answered")
    expect(message_box(page)).to_have_value("kept meanwhile")
    press(page, "Put it back in the box")
    expect(message_box(page)).to_have_value(f"{too_long}\n\nkept meanwhile")
    message_box(page).fill("")
    ask(page, "And the capital of Greece?")
    expect(answer(page).last).to_contain_text("Athens")
    reload(page)
    expect(question(page)).to_have_count(2)


def test_what_no_longer_fits_the_context_is_said(page: Page, tmp_path: Path) -> None:
    disclose(page, "Save or share")
    long = "falcon " * 590
    import_file(page, tmp_path / "long.json", conversation(long, long, long, long))
    expect(answer(page)).to_have_count(2)
    ask(page, QUESTION)
    expect(page.get_by_role("tabpanel")).to_contain_text("the 2 oldest messages were left out of this answer")


def test_diagrams_are_drawn_as_pictures(page: Page, tmp_path: Path) -> None:
    disclose(page, "Save or share")
    import_file(page, tmp_path / "diagram.json", conversation("How does it grow?", DIAGRAM))
    picture = answer(page).locator("img.diagram")
    expect(picture).to_have_count(1)
    page.wait_for_function("document.querySelector('img.diagram').naturalWidth > 50")
    assert "falcon" in (picture.get_attribute("src") or "")
    expect(answer(page).locator(".code")).to_have_count(2)


def test_answers_are_markdown_questions_are_not_and_scripts_are_not_run(page: Page, tmp_path: Path) -> None:
    disclose(page, "Save or share")
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
