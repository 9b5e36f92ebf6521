"""The models of the page: the menu, and one that takes over while the page is open."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from falcon_runtime.models.catalog import CATALOG, STARTER
from falcon_runtime.system.instruction_sets import chosen
from falcon_runtime.system.machine import cpu_name

from .. import hub
from ..served_app import serve
from ..stock_programs import copied
from .actions import OVER, open_tab, press, reload, reset_sampling, sampling, send, set_sampling, state
from .conftest import OpenPage

FALCON = CATALOG["falcon3-1b-instruct"]


def open_menu(page: Page) -> None:
    """Opens the menu, or opens it again."""
    if page.locator("#model-menu").is_visible():
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Models").click()


def test_model_menu(open_page: OpenPage, starter_int8: Path, tmp_path: Path) -> None:
    with serve(starter_int8.parent, tmp_path / "log") as app:
        page, other = open_page(app.url), open_page(app.url)
        open_menu(page)
        menu, use, dismiss = (page.locator(name) for name in ("#model-menu", "#use-model", "#dismiss-failure"))
        expect(menu.get_by_label(re.compile(f"{STARTER.title} . in use"))).to_be_checked()
        expect(use).to_be_disabled()
        machine = re.compile(
            rf"reads \d+ GB of memory a second.*{STARTER.title} reaches \d+%.*, and \d+% of those .* 32 at a time"
        )
        expect(page.locator("#machine")).to_have_text(machine)

        # What it would take is told before anything happens.
        menu.get_by_label(re.compile(FALCON.title)).check()
        details = page.locator("#model-details")
        expect(details).to_contain_text(re.compile(r"of memory.*to download.*TII Falcon-LLM License 2.0", re.DOTALL))
        expect(details).to_contain_text(f"Runs on {cpu_name()} with {chosen().title}")
        expect(details.get_by_role("link")).to_have_attribute("href", re.compile("^https://falconllm"))
        expect(use).to_have_text("Agree to the licence, download and convert")
        use.click()
        notice = page.locator("#model-notice")
        expect(notice.get_by_role("status")).to_contain_text(f"{FALCON.title} is being prepared")
        expect(use).to_have_text("Being prepared")

        # That it failed is told to whoever chose it, and to the owner.
        expect(notice.get_by_role("alert")).to_contain_text(
            re.compile(f"{FALCON.title} could not be prepared: .*could not be downloaded from the model hub")
        )
        expect(use).to_have_text("Try again")
        for visitor in (page, other):
            expect(visitor.locator("#header").get_by_role("status")).to_have_text("Ready")
            expect(visitor.locator("#header")).not_to_contain_text(FALCON.title)
        open_menu(other)
        expect(
            other.locator("#model-menu").get_by_label(re.compile(f"{FALCON.title} . .* to download"))
        ).to_be_visible()
        expect(other.locator("#model-notice")).to_be_empty()
        (said,) = [line for line in (tmp_path / "log").read_text().splitlines() if "could not be prepared" in line]
        assert said.startswith(f"{FALCON.title} could not be prepared: ")
        use.click()
        expect(notice.get_by_role("status")).to_be_visible()
        expect(notice.get_by_role("alert")).to_be_visible()
        dismiss.click()
        expect(notice).to_be_empty()
        expect(dismiss).to_be_hidden()
        expect(use).to_have_text("Agree to the licence, download and convert")

        # Another recipe of the starter model takes over.
        menu.get_by_label(re.compile("int8")).check()
        expect(use).to_have_text("Use this model")
        use.click()
        expect(page.locator("#header")).to_contain_text("int8 · 2,048 tokens of context")
        expect(notice).to_contain_text(f"{STARTER.title} int8 answers now.")
        expect(use).to_have_text("In use")
        answer(page)
        page.close()
        other.close()


def test_a_program_without_a_chat_template_gets_one(open_page: OpenPage, tmp_path: Path) -> None:
    folder = copied("exporter", tmp_path / "models" / "theirs")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
    with serve(folder.parent, tmp_path / "log", "--model", "theirs") as app:
        page = open_page(app.url)
        expect(page.locator("#header")).to_contain_text("stock · 128 tokens of context")
        open_tab(page, "Chat")
        set_sampling(page, "Max new tokens", 8)
        send(page, "Hello")
        expect(state(page)).to_contain_text("no chat template")
        open_menu(page)
        page.locator("#chat-template").get_by_label("phi3").check()
        expect(page.locator("#model-details")).to_contain_text("one answer at a time")
        page.keyboard.press("Escape")
        press(page, "Send")
        expect(state(page)).to_have_text(OVER)
        page.close()


def test_falcon_takes_over_from_the_starter(
    open_page: OpenPage, starter_models_dir: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    """A model that is not converted yet: the page is up with the starter, tells what is coming, and has it then."""
    models = tmp_path / "models"
    models.mkdir()
    (models / STARTER.name).symlink_to(starter_models_dir / STARTER.name)
    with hub.serve() as stand_in:
        stand_in.publish(
            FALCON.source.repository, {path.name: path.read_bytes() for path in small_checkpoint.iterdir()}
        )
        stand_in.gives_files.clear()
        with serve(models, tmp_path / "log", "--model", FALCON.name, HF_ENDPOINT=stand_in.endpoint) as app:
            page = open_page(app.url)
            header, sentence = page.locator("#header"), page.locator("#sentence")
            note = page.locator("#sampling-note")
            expect(sentence).to_contain_text(
                re.compile(f"Now: {STARTER.title}, .* starter .*{FALCON.title} is being d")
            )
            expect(note).to_have_text(f"Defaults of {STARTER.title}")
            expect(page.locator("#footer")).to_contain_text(f"{STARTER.title} is licensed under Apache-2.0")
            stand_in.gives_files.set()
            expect(header.locator(".name")).to_have_text(FALCON.title)
            expect(header.get_by_role("status")).to_have_text("Ready")
            expect(sentence).to_contain_text(f"Now: {FALCON.title}.")
            expect(page.locator("#footer")).to_contain_text(f"{FALCON.title} is licensed under TII")
            answer(page)
            reload(page)
            expect(note).to_have_text(f"Changed from the defaults of {FALCON.title}")
            expect(sampling(page, "Max new tokens")).to_have_value("8")
            reset_sampling(page)
            expect(note).to_have_text(f"Defaults of {FALCON.title}")
            page.close()
    log = (tmp_path / "log").read_text()
    assert f"{FALCON.title} is being prepared, and answers as soon as it is ready.\n" in log
    assert log.index(f"{STARTER.title} is ready\n") < log.index(f"{FALCON.title} is ready\n")


def answer(page: Page) -> None:
    """Has the model answer a question."""
    open_tab(page, "Chat")
    set_sampling(page, "Max new tokens", 8)
    send(page, "Hello")
    expect(state(page)).to_have_text(OVER)
