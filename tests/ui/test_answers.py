"""Answers as HTML: what a model writes is shown, whole, and does nothing."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from ui import answers
from ui.answers import render

HAIKU = "Roses are red\nViolets are blue"
BRACKETS = "Use List<String>, <your name>, <br> and <title>T</title>."


class Reader(HTMLParser):
    """What a browser makes of it: the text, and every element with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.text = self.text.strip("\n")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += "\n" * (tag == "br")

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(text: str, live: bool = False) -> Reader:
    return Reader(render(text, live))


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        BRACKETS,
        HAIKU,
        "all:\n\tgcc a.c\n    -o a",
        "one  two   three",
        "1 < 2 && 3 > 2",
        "[1]: http://example.com is no definition",
        "It costs $5, or $6 with 2\u00a0$ of tax.",
        "👩\u200d👩\u200d👧 漢字とかな مرحبا",
        "Title\nwith two lines",
        "{{value}} ${value} `${1}`".replace("`", ""),
    ],
)
def test_text_is_shown_as_written(text: str, live: bool) -> None:
    assert read(text, live).text.strip() == text


@pytest.mark.parametrize("text", [BRACKETS, "if a < b:\n<think", "a\r\nb\tc 'd' \"e\" &amp; é\n"])
def test_the_text_goes_with_it_character_for_character(text: str) -> None:
    for live in (False, True):
        (answer,) = [attributes for _, attributes in read(text, live).elements if "data-text" in attributes]
        assert answer["data-text"] == text
    assert "\r" not in render("a\r\nb")  # The browser would make a line feed of it.
    assert render("") == ""


def test_markdown_is_markdown() -> None:
    html = render(
        "# Head\n\n**bold** *it* ~~no~~ `x < y`\n\n- a\n  - b\n\n1. c\n\n> q\n\n| a | b |\n|---|--:|\n| 1 | 2 |"
    )
    for part in ("<h1", "<strong>bold", "<em>it", "<s>no", '<code dir="ltr">x &lt; y', "<li>b", "<ol", "<blockquote"):
        assert part in html
    assert '<th style="text-align:right">b</th>' in html


def test_direction_follows_the_content() -> None:
    blocks = read("مرحبا\n\n- واحد\n- اثنان\n\n> q\n\n# h\n\n| a |\n|---|\n\n```\nx\n```\n\n`y`")
    for tag in ("p", "ul", "blockquote", "h1", "table"):
        assert blocks.named(tag)[0]["dir"] == "auto", tag
    # A list has one direction, by its first item: an item with one of its own would hide its text from the list.
    assert "dir" not in blocks.named("li")[0]
    assert [code["dir"] for code in blocks.named("code") if code] == ["ltr"]
    assert {"class": "code", "dir": "ltr"} in blocks.named("div")


def test_code_has_its_language_colours_and_copy() -> None:
    html = render('```python\ndef f():\n    return "<b>"\n```')
    assert '<span class="hl-k">def</span>' in html
    assert "<span>python</span>" in html
    assert "copy-code" in html
    (code,) = re.findall(r"<pre><code>(.*?)</code></pre>", html, re.DOTALL)
    assert unescape(re.sub("<[^>]*>", "", code)) == 'def f():\n    return "<b>"\n'
    assert "hl-" not in render("```nosuchlanguage\ndef f(): pass\n```")
    assert "<img" not in render("```<img src=x>\nx\n```")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("![A cat](https://evil.example/cat.png)", "evil.example"),
        ("[![x](http://a.example/x)](http://b.example)", "a.ex"),
    ],
)
def test_an_image_is_a_link_that_says_where_it_leads(text: str, host: str) -> None:
    shown = read(text)
    assert "img" not in [tag for tag, _ in shown.elements]
    assert host in shown.text
    (link,) = shown.named("a")
    assert link["target"] == "_blank"
    assert link["rel"] == "noopener noreferrer"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "[x](javascript:alert(1))",
        "[x](data:text/html,<script>1</script>)",
        "![x](data:image/svg+xml;base64,AAAA)",
        "[x](/gradio_api/file=/etc/passwd)",
        "[x](//evil.example)",
        "<javascript:alert(1)>",
        '<div style="position:fixed;inset:0">',
        "&lt;script&gt;alert(1)&lt;/script&gt;",
        "```html\n<script>alert(1)</script>\n```",
        r"$$\text{<script>alert(1)</script>}$$",
        r"\(\text{&lt;img src=x onerror=alert(1)&gt;}\)",
        r"$$\href{javascript:alert(1)}{x}$$",
        r"$$\color{red;position:fixed}x$$",
        r"$$\class{a}{x} \style{position:fixed}{y}$$",
        r"$$\unicode{x3c}script$$",
        "<think><script>alert(1)</script></think>",
        '[x](https://a.example "onmouseover=alert(1)")',
        '`"><script>alert(1)</script>`',
    ],
)
def test_nothing_runs_loads_or_covers_anything(text: str) -> None:
    for live in (False, True):
        for tag, attributes in read(text, live).elements:
            assert tag not in ("script", "img", "iframe", "object", "style", "form", "input", "svg", "link", "meta"), (
                text
            )
            assert not [name for name in attributes if name.startswith("on")], text
            assert re.fullmatch("|text-align:.*", attributes.get("style") or ""), text
            assert re.match(r"(https?|mailto):", attributes.get("href") or "https:"), text


def test_thoughts_fold_away() -> None:
    shown = read("<think>\nLet me **see**.\n\nYes.\n</think>\n\nIt is 4.")
    assert shown.named("details") == [{"class": "thoughts"}]
    assert "<strong>see" in render("<think>Let me **see**.</think>")
    assert shown.text.strip().endswith("It is 4.")
    assert "think>" not in shown.text
    assert read("Use <think>x</think> twice <think>y</think>.").text.count("Thoughts") == 2
    assert read("<think>\n\n</think>\n\nHi").named("details") == []


@pytest.mark.parametrize(
    "text",
    ["`<think>x</think>`", "```xml\n<think>x</think>\n```", "``a ` <think>x</think>``", "- a\n  ```\n  <think>\n  ```"],
)
def test_thoughts_in_code_are_code(text: str) -> None:
    for live in (False, True):
        shown = read(text, live)
        assert shown.named("details") == []
        assert "<think>" in shown.text


def test_a_backtick_that_nothing_closes_hides_no_thoughts() -> None:
    assert read("The ` key.\n\n<think>x</think>").named("details")
    assert read("Don`t <think>x</think>").named("details")


def test_thoughts_that_have_no_end() -> None:
    live = read("<think>\nFirst", live=True)
    assert live.named("details") == [{"class": "thoughts busy"}]
    assert "Thinking…First" in live.text
    assert "Thoughts" in read("<think>\nFirst").text
    # In the middle of a line it is a word.
    for live_or_not in (False, True):
        assert read("The tag <think> begins it", live_or_not).text == "The tag <think> begins it"


@pytest.mark.parametrize(
    ("latex", "part"),
    [
        (r"\(a^2 < b\)", "<mo>&lt;</mo>"),
        ("$$\\sum_{i=1}^n i$$", "<munderover>"),
        ("\\[\n\\frac{1}{2}\n= x\n\n\\]", "<mfrac>"),
        ("$$\n- x\n$$", "<mo>"),
        ("- \\[ x \\]", "<mi>x</mi>"),
        (r"Thus \[ x \] follows.", "<mi>x</mi>"),
    ],
)
def test_formulas_are_mathml(latex: str, part: str) -> None:
    html = render(latex)
    assert part in html
    assert "<math" in html
    assert "$$" not in re.sub('data-text="[^"]*"', "", html)


@pytest.mark.parametrize(
    "latex",
    [r"$$\frac{1}$$", r"\(x_\)", r"$$\nosuchcommand{x}$$", r"\(\newcommand{\a}{x}\a\)", r"$$\rule{99em}{99em}$$"],
)
def test_a_formula_that_cannot_be_read_is_its_source(latex: str) -> None:
    shown = read(latex)
    assert shown.text == latex
    assert shown.named("math") == []


def test_dollars_and_brackets_alone_are_text() -> None:
    assert read("$$ and no more").text == "$$ and no more"
    assert read(r"an array \[ is escaped").text == "an array [ is escaped"
    assert read("`$$x$$`").named("math") == []


def prefixes(text: str) -> list[str]:
    return [text[:n] for n in range(1, len(text) + 1)]


def test_live_text_is_never_swallowed() -> None:
    """But for a few characters at the end that may become something else."""
    text = f"{BRACKETS}\n{HAIKU}\n\nSo \\(a_1*b*c_1\\) and $$x$$.\n\n```py\nx = List<int>\n```\n\nend"
    for part in prefixes(text):
        shown = re.sub(r"\W", "", read(part, live=True).text)
        words = re.findall(r"\w+", part)
        assert all(word in shown for word in words[:-1] if word not in ("py", "a_1", "c_1")), part


def test_live_text_keeps_its_form() -> None:
    """What is a table, a list, code or a formula's source stays one while it grows."""
    table = "Here:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    head = len("Here:\n\n| a | b |")
    assert all("<table" in render(part, True) for part in prefixes(table)[head - 1 :])
    steps = "Steps:\n- one\n- two\n1. three\n---\n# Four"
    assert not any("<h2" in render(part, True) for part in prefixes(steps))
    code = "```python\nprint('hi')\n```"
    assert all("```" not in read(part, True).text for part in prefixes(code)[3:])
    formula = "\\[\na_1*b*c_1 = \\frac{1}{2}"
    assert all("<em>" not in render(part, True) for part in prefixes(formula))
    assert "<code" in render(formula, True)
    assert "<math" in render(formula + "\n\\]\n", True)


def test_what_is_finished_is_parsed_once() -> None:
    """So that an answer costs what is new of it, 25 times a second."""
    answers._inline.cache_clear()
    text = "\n\n".join(f"Paragraph {i} is **here**." for i in range(50))
    for n in range(10):
        render(f"{text}\n\nNew{'x' * n}", live=True)
    assert answers._inline.cache_info().misses == 50


PIECES = (
    "[", "![", "[a](", "*", "**a ", "*_", "`", "``` ", "<", "<think>", "`<think>`", "> ", "- ", "\n- ", "1. ", "|",
    "~~", "|a|\n|-|\n", "$$", r"\(", "\\[\n", "$$\n", "\\", "&amp;", " ", "\n", "> - ", "a`b``c```", "<http://a>",
)  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.timeout(60)
def test_no_text_takes_forever(piece: str) -> None:
    """A quadratic one would take minutes at this length."""
    text = (piece * 60_000)[:60_000]
    for live in (False, True):
        assert render(text, live)


@pytest.mark.parametrize(
    "nested", ["$$" + r"\frac{1}{" * 190 + "}" * 190 + "$$", "$$" + "{" * 900 + "}" * 900 + "$$", "  - a\n" * 200]
)
def test_nothing_nests_too_deeply(nested: str) -> None:
    assert render(nested)
    assert render("\n".join("  " * i + "- a" for i in range(300)))


def test_endless_text_is_plain() -> None:
    text = "**a** <b>\n" * (answers.MAX_CHARACTERS // 8)
    assert "<strong>" not in render(text)
    assert read(text).text == text.strip("\n")
