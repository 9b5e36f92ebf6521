"""A real Chromium, driven by Playwright, on the real app."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.served_app import ServedApp, serve

from .actions import opened

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
PATIENCE_MS = 120_000
"""How long a page may take on a loaded machine before a test gives up on it."""
LEFT = ("AbortError: signal is aborted", "Connection errored out")
"""What Gradio writes to the console when a page is left while it listens to the server."""
OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def app(starter_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    with serve(starter_models_dir, tmp_path_factory.mktemp("app") / "log") as served:
        yield served


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "The browser tests need Debian's chromium package."
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[OpenPage]:
    """Opens the page as another visitor each time, that of `app` unless `url` is another one, and waits until it is
    as its link says and its header says `state`.

    No visit may leave an error in the console.
    """
    errors: list[str] = []
    contexts = []

    def note(error: str) -> None:
        if not any(words in error for words in LEFT):
            errors.append(error)

    def open_page(
        url: str | None = None, state: str | re.Pattern[str] = "Ready", width: int = 1280, height: int = 900
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            reduced_motion="reduce",  # Without a graphics card the engine's processor draws what moves.
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: note(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url or request.getfixturevalue("app").url)
        opened(page)
        expect(page.locator("#header").get_by_role("status")).to_have_text(state)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()
