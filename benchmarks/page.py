"""How often a browser shows more of an answer, in an empty conversation and in one of fifty messages.

    python -m benchmarks.page [MODELS_DIR]

Chromium, the server and the engine share this machine's processors, as they do nowhere else.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from falcon_runtime.models.library import default_models_dir
from falcon_runtime.system.machine import cpu_name, default_threads
from tests.browser.actions import open_tab, send, set_sampling
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


def main() -> None:
    models_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else default_models_dir()
    print("| messages | updates | updates per second |\n|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve(models_dir, Path(scratch, "log"), afresh=True) as app,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for messages in MESSAGES:
            page = browser.new_context().new_page()
            page.goto(app.url)
            expect(page.locator("#header").get_by_role("status")).to_have_text("Ready", timeout=60_000)
            updates, rate = measure(page, messages)
            print(f"| {messages} | {updates} | {rate:.0f} |", flush=True)
        browser.close()
    print(f"\n{cpu_name()}, {default_threads()} threads")


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
        page.get_by_role("button", name="Keep this conversation").click()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Import JSON").click()
        chooser.value.set_files(
            {"name": "turns.json", "mimeType": "application/json", "buffer": json.dumps(turns).encode()}
        )
        expect(page.locator("#conversation .user-row")).to_have_count(messages // 2)
    set_sampling(page, "Max new tokens", 400)
    set_sampling(page, "Temperature", 1)
    send(page, "Write a long story about a falcon and a lighthouse keeper.")
    expect(page.locator("#live")).to_be_visible()
    page.evaluate(WATCH)
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=120_000)
    shown = page.evaluate("window.shown")[1:-1]
    return len(shown), (len(shown) - 1) / (shown[-1] - shown[0]) * 1000


if __name__ == "__main__":
    main()
