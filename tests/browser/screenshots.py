"""Pictures of every tab, light and dark, on a desktop and on a phone, and a film of an answer.

    python -m tests.browser.screenshots [FOLDER]

The README shows some of them, from docs/.
"""

import argparse
import base64
import io
import os
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from falcon_runtime.models.library import default_models_dir
from tests.served_app import serve

from .actions import choose_preset, open_tab, send, set_sampling
from .conftest import FLAGS, PATIENCE_MS
from .tour import tour

FRAME_S = 0.12
FILM_WIDTH = 860


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve(default_models_dir(), Path(scratch, "log")) as app,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                page = visit(browser, app.url, width, scheme)
                for tab in tour(page, unfold=False):
                    path = folder / f"{tab.lower()}-{scheme}-{width}.png"
                    page.screenshot(path=path, full_page=True)
                    shrink(path)
                    print(path, flush=True)
        film(visit(browser, app.url, 1280, "light"), folder / "answer.gif")
        print(folder / "answer.gif")
        browser.close()


def visit(browser: Browser, url: str, width: int, scheme: str) -> Page:
    """The page as a new visitor has it, its model ready."""
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    expect(page.locator("#header").get_by_role("status")).to_have_text("Ready")
    return page


def shrink(path: Path) -> None:
    """Keeps a picture in 256 colours, a third of its bytes."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def film(page: Page, path: Path) -> None:
    """An answer as it comes, as a GIF: what the browser draws, when it draws it."""
    open_tab(page, "Chat")
    choose_preset(page, "Precise")
    set_sampling(page, "Max new tokens", 200)
    page.set_viewport_size({"width": 1280, "height": 860})
    shots: list[tuple[float, bytes]] = []
    devtools = page.context.new_cdp_session(page)

    def take(event: dict[str, Any]) -> None:
        shots.append((event["metadata"]["timestamp"], base64.b64decode(event["data"])))
        devtools.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

    devtools.on("Page.screencastFrame", take)
    devtools.send("Page.startScreencast", {"format": "jpeg", "quality": 90, "everyNthFrame": 2})
    page.wait_for_timeout(500)
    send(page, "Give me three tips for better sleep.")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.wait_for_timeout(500)
    devtools.send("Page.stopScreencast")
    shots.sort(key=lambda shot: shot[0])  # A busy browser does not tell them in order.
    # The first ones may be of the window's earlier size.
    size = Image.open(io.BytesIO(shots[-1][1])).size
    shots = [shot for shot in shots if Image.open(io.BytesIO(shot[1])).size == size]
    kept = [shots[0]]
    for shot in shots[1:]:
        if shot[0] - kept[-1][0] >= FRAME_S or shot is shots[-1]:
            kept.append(shot)
    durations = [int((after[0] - before[0]) * 1000) for before, after in pairwise(kept)] + [3000]
    pictures = [scaled(picture) for _, picture in kept]
    # One palette for all, that of the end: with one for each frame, what stays would change its colours.
    palette = pictures[-1].quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, optimize=False)


def scaled(picture: bytes) -> Image.Image:
    full = Image.open(io.BytesIO(picture)).convert("RGB")
    return full.resize((FILM_WIDTH, full.height * FILM_WIDTH // full.width))


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    main()
