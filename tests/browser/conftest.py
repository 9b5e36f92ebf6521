"""A real Chromium, driven by Playwright, on the real app."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from tests.served_app import ServedApp, serve

from .actions import opened

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
PATIENCE_MS = 120_000
"""How long a page may take on a loaded machine before a test gives up on it."""
LEFT = ("AbortError: signal is aborted", "Connection errored out")
"""What Gradio writes to the console when a page is left while it listens to the server."""
VISITOR: dict[str, Any] = {
    "viewport": {"width": 1280, "height": 900},
    "reduced_motion": "reduce",  # Without a graphics card the engine's processor draws what moves.
}
OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def app(starter_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    with serve(starter_models_dir, tmp_path_factory.mktemp("app") / "log") as served:
        yield served


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        yield playwright


def chromium() -> str:
    path = shutil.which("chromium")
    assert path, "The browser tests need Debian's chromium package."
    return path


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """For visitors beside the first one of a test."""
    with playwright.chromium.launch(executable_path=chromium(), args=FLAGS) as browser:
        yield browser


@pytest.fixture(scope="session")
def profile(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A browser that keeps the page's scripts, compiled, from one test to the next: a page opens at a fifth of what it
    costs a new visitor."""
    folder = tmp_path_factory.mktemp("profile")
    with playwright.chromium.launch_persistent_context(
        folder, executable_path=chromium(), args=FLAGS, **VISITOR
    ) as profile:
        yield profile


@pytest.fixture
def first_visitor(profile: BrowserContext) -> Iterator[BrowserContext]:
    """That browser, for one test; nothing stays of what the page kept in it."""
    yield profile
    _, *pages = profile.pages  # Without its blank page the browser would end.
    origins = {page.evaluate("location.origin") for page in pages}
    for page in pages:
        page.close()
    devtools = profile.new_cdp_session(profile.pages[0])
    for origin in origins:
        devtools.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "local_storage"})
    profile.clear_cookies()
    profile.clear_permissions()


@pytest.fixture
def console_errors() -> list[str]:
    """What pages have written to the console as errors, and what no test leaves there."""
    return []


@pytest.fixture
def open_page(
    request: pytest.FixtureRequest, first_visitor: BrowserContext, console_errors: list[str]
) -> Iterator[OpenPage]:
    """Opens the page as another visitor each time, that of `app` unless `url` is another one, and waits until it is
    as its link says and its header says `state`.

    No visit may leave an error in the console.
    """
    errors = console_errors
    others: list[BrowserContext] = []
    visited = False

    def note(error: str) -> None:
        if not any(words in error for words in LEFT):
            errors.append(error)

    def visitor() -> BrowserContext:
        nonlocal visited
        if not visited:
            visited = True
            return first_visitor
        others.append(request.getfixturevalue("browser").new_context(**VISITOR))
        return others[-1]

    def open_page(
        url: str | None = None, state: str | re.Pattern[str] = "Ready", width: int = 1280, height: int = 900
    ) -> Page:
        page = visitor().new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: note(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url or request.getfixturevalue("app").url)
        opened(page)
        expect(page.locator("#header").get_by_role("status")).to_have_text(state)
        return page

    yield open_page
    for context in others:
        context.close()
    assert errors == []


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()
