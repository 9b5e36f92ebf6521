"""What visitors do in the Chat tab and look at."""

import json
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from .actions import answer_shortly, message_box, open_tab, over, press, question

GREECE = "What is the capital of Greece?"


def ready(page: Page) -> Page:
    open_tab(page, "Chat")
    answer_shortly(page)
    return page


def begin_anew(page: Page) -> Page:
    """The tab with a new conversation and short answers, on a page that other tests have used."""
    ready(page)
    over(page)
    message_box(page).fill("")
    press(page, "New")
    expect(question(page)).to_have_count(0)
    return page


def conversations(page: Page) -> Locator:
    """The titles of all conversations in the panel."""
    return page.locator("#conversations nav .title")


def open_conversation(page: Page) -> Locator:
    """The title of the one that is open."""
    return page.locator("#conversations [aria-current]")


def choose_conversation(page: Page, name: str) -> None:
    conversations(page).filter(has_text=name).click()


def press_in_message(page: Page, name: str) -> None:
    """Presses one of the small buttons below the messages, when there is no other of that name any more."""
    button = page.locator("#conversation").get_by_role("button", name=name, exact=True)
    expect(button).to_have_count(1)
    button.click()


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
