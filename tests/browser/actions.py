"""What visitors do on the page and look at, for the tests and the screenshots."""

import re

from playwright.sync_api import Locator, Page, expect

QUESTION = "What is the capital of France?"
EXAMPLE = "What is the capital city of Japan?"
COUNTING = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,"
"""A text that the model goes on with for as long as it may."""
OVER = re.compile("Finished|Stopped at the length limit|it was repeating itself")


def open_tab(page: Page, name: str) -> Locator:
    """The open tab, when it is there: what is in a tab comes into the page when that is opened first."""
    page.get_by_role("tab", name=name).click()
    panel = page.get_by_role("tabpanel")
    expect(panel.locator("button:visible").first).to_be_visible()
    settle(page)
    return panel


def settle(page: Page) -> None:
    """Waits until Gradio has set the first values of components that have just come into the page. It does so a moment
    after they can be typed into, and what was typed before is lost."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")


def opened(page: Page) -> None:
    """Waits until the page is as it was left, or as its link says."""
    expect(page.locator("html[data-opened]")).to_have_count(1)


def reload(page: Page) -> None:
    page.reload()
    opened(page)


def state(page: Page) -> Locator:
    """What the statistics line of the open tab says is going on."""
    return page.get_by_role("tabpanel").locator(".line .state")


def press(page: Page, name: str) -> None:
    page.get_by_role("tabpanel").get_by_role("button", name=name, exact=True).click()


def open_settings(page: Page) -> None:
    """Opens the panel with the sampling controls, and with who answers in the Chat tab."""
    if page.locator("#settings").is_hidden():
        page.locator("#tools").get_by_role("button", name="Settings").click()


def leave_settings(page: Page) -> None:
    """Closes the panel where it lies over the page."""
    if page.evaluate("innerWidth < 1000"):
        page.keyboard.press("Escape")
        expect(page.locator("#settings")).to_be_hidden()


def set_sampling(page: Page, name: str, value: float) -> None:
    open_settings(page)
    field = sampling(page, name)
    field.fill(str(value))
    field.blur()
    leave_settings(page)


def sampling(page: Page, name: str) -> Locator:
    """The number that a sampling control shows."""
    return page.locator("#sampling").get_by_label(f"number input for {name}", exact=True)


def reset_sampling(page: Page) -> None:
    """Gives the sampling controls the model's own values, which they have when the page is opened first."""
    open_settings(page)
    note = page.locator("#sampling-note")
    if "Changed" in note.inner_text():
        page.locator("#reset-sampling").click()
    expect(note).to_contain_text("Defaults of")


def answer_shortly(page: Page, tokens: int = 24) -> None:
    """Makes the answers short, and the same ones each time."""
    set_sampling(page, "Temperature", 0)
    set_sampling(page, "Max new tokens", tokens)


def answer_greedily(page: Page, tokens: int) -> None:
    """Makes the model take the likeliest token each time, and go on for as long as it may with a text that counts."""
    set_sampling(page, "Temperature", 0)
    set_sampling(page, "Max new tokens", tokens)
    if not sampling(page, "Frequency penalty").is_visible():
        page.locator("#sampling").get_by_role("button", name="More").click()
        settle(page)
    set_sampling(page, "Frequency penalty", 0)


def choose_preset(page: Page, name: str) -> None:
    open_settings(page)
    page.locator("#preset").get_by_label(name).check()
    leave_settings(page)


def text_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Text", exact=True)


def disclose(page: Page, name: str) -> None:
    """Opens or closes what stands below a heading of the open tab."""
    page.get_by_role("tabpanel").get_by_role("button", name=name).click()
    settle(page)


def fold(page: Page, *names: str) -> None:
    """Closes what is open below these headings of the open tab."""
    for name in names:
        if page.get_by_role("tabpanel").locator("button.label-wrap.open").filter(has_text=name).count():
            disclose(page, name)


def link(page: Page) -> str:
    """The link that the open tab copies."""
    press(page, "Link")
    return page.get_by_role("tabpanel").locator(".linked a").get_attribute("href") or ""


def stop_by_escape(page: Page, text: Locator) -> None:
    """Stops the run of the open tab as soon as there is some of its text, which then stays as it is."""
    expect(state(page)).to_have_text("Writing")
    expect(text).to_have_text(re.compile(r"\w"))
    page.keyboard.press("Escape")
    expect(state(page)).to_have_text("Stopped")
    stopped = text.inner_text()
    page.wait_for_timeout(1000)
    assert text.inner_text() == stopped


def generate(page: Page, text: str) -> str:
    """Has the Generate tab continue a text; all of it when it is over."""
    text_box(page).fill(text)
    page.locator("#generate-start").click()
    expect(state(page)).to_have_text(OVER)
    return text_box(page).input_value()


def clear(page: Page) -> None:
    """Clears the Generate tab, and waits until it is: what is typed before would be cleared as well."""
    press(page, "Clear")
    expect(text_box(page)).to_have_value("")
    expect(state(page)).to_have_text("Nothing asked yet")


def wait_for_more(page: Page, beginning: str) -> str:
    """The text of the Generate tab once it is longer than `beginning`."""
    page.wait_for_function(
        "n => document.querySelector('#generate-text textarea').value.length > n", arg=len(beginning)
    )
    return text_box(page).input_value()


def message_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message", exact=True)


def send(page: Page, message: str) -> None:
    message_box(page).fill(message)
    message_box(page).press("Enter")


def ask(page: Page, message: str) -> None:
    """Sends a message and waits until it is answered, when the answer stands among the others."""
    whole = page.locator("#conversation .bot-row .bubble")
    answers = whole.count()
    send(page, message)
    expect(whole).to_have_count(answers + 1)
    over(page)


def question(page: Page) -> Locator:
    """The questions. A list is expected of them: there may be more or fewer until the page has changed."""
    return page.locator("#conversation .user-row .bubble")


def answer(page: Page) -> Locator:
    """The answers, one that is being written included."""
    return page.locator("#conversation .bot-row .bubble, #live:visible")


def regenerate(page: Page) -> None:
    """Has the last question answered once more."""
    page.locator("#conversation").get_by_role("button", name="Regenerate", exact=True).last.click()


def versions(page: Page) -> Locator:
    """Which version of a message is shown, where there are several."""
    return page.locator("#conversation .versions")


def system_prompt(page: Page) -> Locator:
    return page.get_by_label("System prompt")


def over(page: Page) -> None:
    """Waits until nothing is being answered any more."""
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def toast(page: Page) -> Locator:
    """What the page says for some seconds."""
    return page.locator("#toast")
