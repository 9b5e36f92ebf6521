"""The list of the page's keys; `script/keys.js` does what they say."""

import gradio as gr

from . import views

KEYS = (
    ("Send, or run", "Enter"),
    ("Break the line", "Shift + Enter"),
    ("Stop", "Esc"),
    ("Write a message", "/"),
    ("New conversation", "Ctrl + Shift + O"),
    ("Search conversations", "Ctrl + K"),
    ("Earlier conversation", "Alt + ↓"),
    ("Later conversation", "Alt + ↑"),
    ("This list", "?"),
)


def build() -> None:
    """Lays the list out as a view."""
    rows = "".join(f"<tr><th scope=row>{words}</th><td>{_keys(keys)}</td></tr>" for words, keys in KEYS)
    with views.view("keys", "Keyboard shortcuts"):
        gr.HTML(f"<table>{rows}</table>", apply_default_css=False, padding=False)


def _keys(keys: str) -> str:
    return " + ".join(f"<kbd>{key}</kbd>" for key in keys.split(" + "))
