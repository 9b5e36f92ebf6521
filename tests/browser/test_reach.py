"""What is written by a model or in a file cannot reach out of the page, nor over it."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .actions import answer, disclose, open_tab
from .chat_actions import conversation, import_file

ADDRESS = "http://ELSEWHERE"
IMAGES = (f"![a cat]({ADDRESS}/markdown.png)", f"[![b]({ADDRESS}/linked.png)]({ADDRESS}/page)")
HOSTILE = (
    f'<img src="{ADDRESS}/html.png" onerror="run()">',
    f'<iframe src="{ADDRESS}/frame"></iframe><embed src="{ADDRESS}/embed"><object data="{ADDRESS}/object"></object>',
    f'<form action="{ADDRESS}/form"><button>Continue</button></form>',
    f'<link rel="stylesheet" href="{ADDRESS}/sheet.css"><meta http-equiv="refresh" content="0;url={ADDRESS}/meta">',
    "<style>body { display: none } * { position: fixed; inset: 0; background: url(http://ELSEWHERE/style) }</style>",
    f'<div style="position:fixed;inset:0;z-index:99999;background:url({ADDRESS}/inline)">Log in again</div>',
    f'<svg><image href="{ADDRESS}/svg.png"/><use href="{ADDRESS}/use.svg#a"/></svg>',
    f'<video src="{ADDRESS}/video" poster="{ADDRESS}/poster" autoplay></video><audio src="{ADDRESS}/audio"></audio>',
    f'<a href="javascript:fetch(`{ADDRESS}/link`)">here</a> [there](javascript:fetch`{ADDRESS}/markdown-link`)',
    f"[x](data:text/html,<script>fetch('{ADDRESS}/data')</script>) <base href=\"{ADDRESS}/\">",
    f"```html\n<img src={ADDRESS}/code.png>\n```\n`<img src={ADDRESS}/span.png>`",
    f"<think><img src={ADDRESS}/thought.png></think>Yes.",
    f"$\\href{{{ADDRESS}/formula}}{{x}}$ $$\\includegraphics{{{ADDRESS}/formula.png}}$$",
    f"| a | b |\n|---|---|\n| <img src={ADDRESS}/cell.png> | ![c]({ADDRESS}/cell-markdown.png) |",
    f'{ADDRESS}/"onmouseover="run() <{ADDRESS}/auto>',
)
INJECTED = """address => {
  const place = document.body.appendChild(document.createElement('div'))
  place.innerHTML = `<img src="${address}/injected.png" onerror="window.run = true">
    <img src="data:," onerror="window.run = true">
    <iframe src="${address}/injected-frame"></iframe>
    <form action="${address}/injected-form" id="injected"><button>Send</button></form>
    <div style="background: url(${address}/injected-style)">x</div>
    <link rel="stylesheet" href="${address}/injected.css">
    <a id="script" href="javascript:window.run = true">x</a>`
  const script = document.createElement('script')
  script.textContent = 'window.run = true'
  place.append(script)
  document.getElementById('script').click()
  document.getElementById('injected').submit()
  return fetch(address + '/fetched').then(() => 'reached', () => 'refused')
}"""
"""What would be done if something had got into the page in spite of all."""


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, list[str]]]:
    """Another server: its address, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_answers_reach_nothing_and_cover_nothing(page: Page, tmp_path: Path, elsewhere: tuple[str, list[str]]) -> None:
    address, asked = elsewhere
    texts = [text.replace(ADDRESS, address) for text in (*IMAGES, *HOSTILE)]
    open_tab(page, "Chat")
    disclose(page, "Save or share")
    turns = [text for answer in texts for text in ("And this?", answer)]
    import_file(page, tmp_path / "hostile.json", conversation(*turns))
    expect(answer(page)).to_have_count(len(texts))
    page.wait_for_timeout(1000)  # In which whatever would reach out does.
    assert asked == []
    assert page.evaluate("window.run") is None
    inside = page.locator("#conversation .bot-row .bubble")
    assert (
        inside.locator("img, iframe, form, style, link, meta, object, embed, svg image, video, audio, base").count()
        == 0
    )
    assert (
        inside.locator("[style*=fixed], [onerror], [onmouseover], a[href^='javascript'], a[href^='data']").count() == 0
    )
    for name, label in (("a cat", "127.0.0.1"), ("b", "127.0.0.1")):
        image = inside.get_by_role("link", name=name).first
        expect(image).to_contain_text(label)
        assert (image.get_attribute("href") or "").startswith(address)
        assert image.get_attribute("rel") == "noopener noreferrer"


def test_what_got_into_the_page_reaches_nothing_either(
    page: Page, elsewhere: tuple[str, list[str]], console_errors: list[str]
) -> None:
    """The second wall: the page's Content-Security-Policy."""
    address, asked = elsewhere
    before = page.url
    assert page.evaluate(INJECTED, address) == "refused"
    page.wait_for_timeout(1000)  # In which whatever would reach out does.
    assert asked == []
    assert page.evaluate("window.run") is None
    assert page.url == before
    assert any("Content Security Policy" in error for error in console_errors)
    console_errors.clear()
