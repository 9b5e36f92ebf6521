"""The list of the page's keys; `script/keys.js` does what they say."""

import gradio as gr

from . import views
from .words import say

KEYS = {
    "send": "Enter",
    "break": "Shift + Enter",
    "stop": "Esc",
    "write": "/",
    "new": "Ctrl + Shift + O",
    "search": "Ctrl + K",
    "earlier": "Alt + ↓",
    "later": "Alt + ↑",
    "list": "?",
}


def build() -> None:
    """Lays the list out as a view."""
    rows = "".join(
        f"<tr><th scope=row>{say(f'keys.{name}')}</th><td>{_keys(keys)}</td></tr>" for name, keys in KEYS.items()
    )
    with views.view("keys", say("keys.keys")):
        gr.HTML(f"<table>{rows}</table>", apply_default_css=False, padding=False)


def _keys(keys: str) -> str:
    return " + ".join(f"<kbd>{key}</kbd>" for key in keys.split(" + "))
