"""Styles know the page's own classes, and of Gradio's those alone that one list names."""

import re
from pathlib import Path

from ui.markup import CLASSES

UI = Path(__file__).parents[2] / "ui"
PYGMENTS = re.compile(r"hl-\w+")
SHADES = re.compile(r"p[1-4]")
NO_SELECTOR = re.compile(r'/\*.*?\*/|url\("[^"]*"\)', re.DOTALL)


def styled() -> set[str]:
    """The classes in the selectors of all styles."""
    css = "".join(NO_SELECTOR.sub("", path.read_text()) for path in UI.glob("style/*.css"))
    selectors = re.findall(r"([^{}]+)\{", css)
    return {name for selector in selectors for name in re.findall(r"\.([a-zA-Z][\w-]*)", selector)}


def test_each_class_is_the_pages_own_or_in_the_list_of_gradios() -> None:
    sources = "".join(path.read_text() for path in [*UI.glob("*.py"), *UI.glob("script/*.js")] if path.stem != "markup")
    own = {name for name in styled() if re.search(rf"(?<![\w-]){name}(?![\w-])", sources)}
    generated = {name for name in styled() if PYGMENTS.fullmatch(name) or SHADES.fullmatch(name)}
    assert styled() - own - generated <= CLASSES.keys()
    assert CLASSES.keys() <= styled()
