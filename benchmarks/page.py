"""How often a browser shows more of an answer, in an empty conversation and in one of fifty messages, and how long a
first visit takes on a slow phone, with a line and a processor as Lighthouse gives them to it.

    python -m benchmarks.page [MODELS_DIR]

Chromium, the server and the engine share this machine's processors, as they do nowhere else.
"""

import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from falcon_runtime.models.library import default_models_dir
from falcon_runtime.system.machine import cpu_name, default_threads
from tests.browser.actions import open_tab, opened, send, set_sampling
from tests.browser.conftest import FLAGS
from tests.served_app import serve

MESSAGES = (0, 50)
WATCH = """() => {
  window.shown = []
  let last = ''
  const look = () => {
    const text = document.querySelector('#live').textContent
    if (text !== last) window.shown.push(performance.now())
    last = text
    requestAnimationFrame(look)
  }
  look()
}"""

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
LINE = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8}
"""A slow one of the fourth generation: milliseconds, and bytes a second."""
SLOWER = 4
"""How much slower than this one its processor is."""
VISITS = 3
PATIENCE_MS, SETTLED_MS = 120_000, 5000
PAINTS = """
window.visit = {largest: 0, moved: 0}
const watch = (type, note) =>
  new PerformanceObserver(list => list.getEntries().forEach(note)).observe({type, buffered: true})
watch('largest-contentful-paint', entry => { visit.largest = entry.startTime })
watch('layout-shift', entry => { if (!entry.hadRecentInput) visit.moved += entry.value })
"""
"""Largest Contentful Paint and Cumulative Layout Shift (W3C)."""


def main() -> None:
    models_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else default_models_dir()
    print("| messages | updates | updates per second |\n|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve(models_dir, Path(scratch, "log"), afresh=True) as app,
        sync_playwright() as playwright,
    ):
        browser = launch(playwright)
        for messages in MESSAGES:
            page = browser.new_context().new_page()
            page.goto(app.url)
            expect(page.locator("#header").get_by_role("status")).to_have_text("Ready", timeout=PATIENCE_MS)
            updates, rate = measure(page, messages)
            print(f"| {messages} | {updates} | {rate:.0f} |", flush=True)
        print("\n| first visit of a slow phone: largest paint, s | usable, s | layout shift | kB |\n|---|---|---|---|")
        visits = [first_visit(playwright, app.url) for _ in range(VISITS)]
        largest, usable, moved, size = (statistics.median(figures) for figures in zip(*visits, strict=True))
        print(f"| {largest:.1f} | {usable:.1f} | {moved:.3f} | {size / 1000:.0f} |")
        browser.close()
    print(f"\n{cpu_name()}, {default_threads()} threads")


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)


def first_visit(playwright: Playwright, url: str) -> tuple[float, float, float, float]:
    """Seconds until the largest paint and until the page can be used, how much of it moved, and bytes on the line."""
    sizes: list[float] = []
    with launch(playwright) as browser:  # One that has never been here.
        page = browser.new_context(**PHONE).new_page()
        devtools = page.context.new_cdp_session(page)
        devtools.send("Network.enable")
        devtools.send("Network.emulateNetworkConditions", LINE)
        devtools.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
        devtools.on("Network.loadingFinished", lambda loaded: sizes.append(loaded["encodedDataLength"]))
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(PAINTS)
        page.goto(url)
        opened(page)
        usable = page.evaluate("performance.now()")
        page.wait_for_timeout(SETTLED_MS)
        seen = page.evaluate("visit")
    return seen["largest"] / 1000, usable / 1000, seen["moved"], sum(sizes)


def measure(page: Page, messages: int) -> tuple[int, float]:
    """Updates that are seen while an answer is written after so many messages, and how many a second."""
    open_tab(page, "Chat")
    if messages:
        turns = [
            {
                "role": ("user", "assistant")[i % 2],
                "content": f"{i}. Some **bold** words and `code`, then a list:\n\n- a\n- b",
            }
            for i in range(messages)
        ]
        page.get_by_role("button", name="Save or share").click()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Import JSON").click()
        chooser.value.set_files(
            {"name": "turns.json", "mimeType": "application/json", "buffer": json.dumps(turns).encode()}
        )
        expect(page.locator("#conversation .user-row")).to_have_count(messages // 2)
    set_sampling(page, "Max new tokens", 400)
    set_sampling(page, "Temperature", 1)
    send(page, "Write a long story about a falcon and a lighthouse keeper.")
    expect(page.locator("#live")).to_be_visible(timeout=PATIENCE_MS)
    page.evaluate(WATCH)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=PATIENCE_MS)
    shown = page.evaluate("window.shown")[1:-1]
    return len(shown), (len(shown) - 1) / (shown[-1] - shown[0]) * 1000


if __name__ == "__main__":
    main()
