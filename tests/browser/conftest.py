"""A real Chromium, driven by Playwright, on the real app."""

import re
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from tests.served_app import ServedApp, serve

from .actions import opened

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
PATIENCE_MS = 300_000
"""How long a page may take on a loaded machine before a test gives up on it."""
LEFT = ("AbortError: signal is aborted", "AbortError: BodyStreamBuffer was aborted", "Connection errored out")
"""What Gradio writes to the console when a page is left while it listens to the server."""
VISITOR: dict[str, Any] = {
    "viewport": {"width": 1280, "height": 900},
    "reduced_motion": "reduce",  # Without a graphics card the engine's processor draws what moves.
}
OpenPage = Callable[..., Page]
FAILED = pytest.StashKey[bool]()


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
    """For pages that are not the app's."""
    with playwright.chromium.launch(executable_path=chromium(), args=FLAGS) as browser:
        yield browser


class Profiles:
    """Browsers that keep the page's scripts, compiled, from one visit to the next: a page opens at a third of what it
    costs a browser that has never seen it. Nothing else stays of a visit."""

    def __init__(self, playwright: Playwright, folder: Path):
        self._playwright, self._folder = playwright, folder
        self._all: list[BrowserContext] = []
        self._taken: set[BrowserContext] = set()

    def take(self) -> BrowserContext:
        """One that nobody has; of those the one that has been used most."""
        for profile in self._all:
            if profile not in self._taken:
                break
        else:
            launch = self._playwright.chromium.launch_persistent_context
            folder = self._folder / str(len(self._all))
            profile = launch(folder, executable_path=chromium(), args=FLAGS, **VISITOR)
            self._all.append(profile)
        self._taken.add(profile)
        return profile

    def give_back(self, profile: BrowserContext) -> None:
        """Closes its pages, and forgets what they kept."""
        _, *pages = profile.pages  # Without its blank page the browser would end.
        origins = {page.evaluate("location.origin") for page in pages}
        for page in pages:
            page.close()
        devtools = profile.new_cdp_session(profile.pages[0])
        for origin in origins:
            devtools.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "local_storage"})
        devtools.detach()
        profile.clear_cookies()
        profile.clear_permissions()
        self._taken.remove(profile)

    def close(self) -> None:
        for profile in self._all:
            profile.close()


@pytest.fixture(scope="session")
def profiles(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profiles]:
    profiles = Profiles(playwright, tmp_path_factory.mktemp("profiles"))
    yield profiles
    profiles.close()


def new_page(visitor: BrowserContext, errors: list[str]) -> Page:
    """A page of a visitor's that is patient, and that adds to `errors` what is written to its console as one."""

    def note(error: str) -> None:
        if not any(words in error for words in LEFT):
            errors.append(error)

    page = visitor.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda message: note(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page


class Visits:
    """Visits of one page, each with a browser of its own, none of which may leave an error in the console."""

    def __init__(self, profiles: Profiles, errors: list[str]):
        self._profiles, self._errors = profiles, errors
        self._visitors: list[BrowserContext] = []

    def open(self, url: str, state: str | re.Pattern[str] = "Ready", width: int = 1280, height: int = 900) -> Page:
        """Opens the page as another visitor each time, and waits until it is as its link says and its header says
        `state`."""
        self._visitors.append(self._profiles.take())
        page = new_page(self._visitors[-1], self._errors)
        page.set_viewport_size({"width": width, "height": height})
        page.goto(url)
        opened(page)
        expect(page.locator("#header").get_by_role("status")).to_have_text(state)
        return page

    def end(self) -> None:
        while self._visitors:
            self._profiles.give_back(self._visitors.pop())


@pytest.fixture
def console_errors() -> list[str]:
    """What pages have written to the console as errors, and what no test leaves there."""
    return []


@pytest.fixture
def open_page(request: pytest.FixtureRequest, profiles: Profiles, console_errors: list[str]) -> Iterator[OpenPage]:
    """`Visits.open`, of the page of `app` unless `url` is another one."""
    visits = Visits(profiles, console_errors)

    def open_page(url: str | None = None, *options: Any, **named: Any) -> Page:
        return visits.open(url or request.getfixturevalue("app").url, *options, **named)

    yield open_page
    visits.end()
    assert console_errors == []


class LongVisit:
    """A visit that several tests of a file make in turn: a page takes seconds of a processor to open."""

    def __init__(self, profiles: Profiles, url: str):
        self._url, self.errors = url, list[str]()
        self._visits = Visits(profiles, self.errors)
        self._page: Page | None = None

    def page(self) -> Page:
        self._page = self._page or self._visits.open(self._url)
        return self._page

    def end(self) -> None:
        self._visits.end()
        self._page = None


@pytest.fixture(scope="module")
def long_visit(profiles: Profiles, app: ServedApp) -> Iterator[LongVisit]:
    visit = LongVisit(profiles, app.url)
    yield visit
    visit.end()


@pytest.fixture
def shared_page(request: pytest.FixtureRequest, long_visit: LongVisit) -> Iterator[Page]:
    """The page of the file's long visit, as the test before left it; who takes it begins with what makes it as it was
    when it was opened. After a test that failed it is another one."""
    page = long_visit.page()
    yield page
    errors = long_visit.errors.copy()
    long_visit.errors.clear()
    if errors or request.node.stash.get(FAILED, False):
        long_visit.end()
    else:
        page.context.clear_permissions()
    assert errors == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()
