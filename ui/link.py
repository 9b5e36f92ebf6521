"""How the page opens: as a link says, which holds prompt and settings, or as this tab of the browser was left.

A link's prompt and settings stand after its #, which browsers send to no server.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
from gradio.components import Component

from . import controls
from .controls import Sampling
from .runs import INSTANT

TABS = ("generate", "chat", "instruct", "compare")


class Opening:
    """The moment in which a visitor opens the page: what stands after the link's #, and what the browser kept."""

    def __init__(self, demo: gr.Blocks) -> None:
        # Beside the tabs: what is in a tab that was never opened takes no part in the page.
        self.kept = gr.HTML({}, html_template="", visible="hidden")
        self.conversation = gr.HTML(
            "",
            html_template="",
            visible="hidden",
            js_on_load="falcon.conversations.attach(props, trigger, watch)",
        )
        self.opened = demo.load(None, None, [self.kept, self.conversation], js="() => falcon.opening()", **INSTANT)

    def fill(self, tab: str, texts: Mapping[str, Component]) -> None:
        """Fills `texts` of a tab with what the link says, or else with what stood there when the page was left."""

        def given(kept: dict[str, Any]) -> Any:
            opened, values = read(kept["fragment"])
            told = values if opened == tab else {}
            drafts = {name: kept["drafts"].get(text.elem_id) for name, text in texts.items()}
            filled = [told.get(name, drafts[name] or gr.skip()) for name in texts]
            return filled if len(filled) > 1 else filled[0]  # One output gets a value, several a list of them.

        self.opened.then(given, self.kept, list(texts.values()), **INSTANT)

    def restore(self, tabs: gr.Tabs, sampling: Sampling) -> None:
        """Opens the link's tab, or the one that was open, and sets the sampling: as the browser kept it, then as the
        link says."""

        def restored(saved: Any, page: dict[str, Any]) -> list[Any]:
            tab, values = read(page["fragment"])
            tab = tab or (page["tab"] if page["tab"] in TABS else None)
            kept = saved if isinstance(saved, dict) else {}
            return [gr.Tabs(selected=tab) if tab else gr.skip(), *sampling.reopened(kept, values)]

        done = self.opened.then(restored, [sampling.saved, self.kept], [tabs, *sampling.opened], **INSTANT)
        done.then(None, js="() => falcon.opened()", **INSTANT)


def wire(button: gr.Button, notice: gr.HTML, tab: str, texts: Mapping[str, Component], sampling: Sampling) -> None:
    """Makes `button` copy a link to `tab` with its `texts` and the sampling, and show it in `notice`."""
    names = json.dumps([*texts, *controls.NAMES])
    button.click(
        None,
        [*texts.values(), *sampling.components],
        notice,
        js=f"(...values) => falcon.share('{tab}', {names}, values)",
        **INSTANT,
    )


def read(fragment: str) -> tuple[str | None, dict[str, str]]:
    """The tab that a link opens, None if it is none of ours, and its texts and settings by name."""
    values: dict[str, Any] = dict(parse_qsl(fragment.removeprefix("#"), keep_blank_values=True))
    tab = values.pop("tab", None)
    return (tab, values) if tab in TABS else (None, {})
