"""How the page opens: as a link says, which holds prompt and settings, or as this tab of the browser was left.

A link's prompt and settings stand after its #, which browsers send to no server.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import gradio as gr
from gradio.components import Component

from . import controls
from .controls import Sampling
from .runs import INSTANT

TABS = ("chat", "generate", "instruct", "compare")
"""In their order: a new visitor sees the first one."""


class Part(NamedTuple):
    """What one part of the page does when it is opened: `function(*inputs)` gives `outputs`."""

    function: Callable[..., Sequence[Any]]
    inputs: Sequence[Component]
    outputs: Sequence[Component | gr.Tabs]


class Opening:
    """The moment in which a visitor opens the page: what stands after the link's #, and what the browser kept.

    All parts of the page are filled by one request: each one would be a way to the server and back.
    """

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
        self._parts: list[Part] = []

    def then(
        self,
        function: Callable[..., Sequence[Any]],
        inputs: Sequence[Component],
        outputs: Sequence[Component | gr.Tabs],
    ) -> None:
        """Has `function(*inputs)` give `outputs` when the page is opened."""
        self._parts.append(Part(function, inputs, outputs))

    def fill(self, tab: str, texts: Mapping[str, Component]) -> None:
        """Fills `texts` of a tab with what the link says, or else with what stood there when the page was left."""

        def filled(kept: dict[str, Any]) -> list[Any]:
            told = given(tab, texts, kept)
            return [told.get(name, gr.skip()) for name in texts]

        self.then(filled, [self.kept], list(texts.values()))

    def restore(self, tabs: gr.Tabs, sampling: Sampling) -> None:
        """Opens the link's tab, or the one that was open, and sets the sampling: as the browser kept it, then as the
        link says. Nothing can be added after that."""

        def restored(saved: Any, page: dict[str, Any]) -> list[Any]:
            tab, values = read(page["fragment"])
            tab = tab or (page["tab"] if page["tab"] in TABS else None)
            kept = saved if isinstance(saved, dict) else {}
            return [gr.Tabs(selected=tab) if tab else gr.skip(), *sampling.reopened(kept, values)]

        self.then(restored, [sampling.saved, self.kept], [tabs, *sampling.opened])
        inputs = [component for part in self._parts for component in part.inputs]
        outputs = [component for part in self._parts for component in part.outputs]
        done = self.opened.then(self._open, inputs, outputs, **INSTANT)
        done.then(None, js="() => falcon.opened()", **INSTANT)

    def _open(self, *inputs: Any) -> list[Any]:
        values = iter(inputs)
        return [value for part in self._parts for value in part.function(*(next(values) for _ in part.inputs))]


def given(tab: str, texts: Mapping[str, Component], kept: dict[str, Any]) -> dict[str, str]:
    """Those of `texts` of a tab that the link tells, or else what stood there when the page was left."""
    opened, values = read(kept["fragment"])
    drafts = {name: draft for name, text in texts.items() if (draft := kept["drafts"].get(text.elem_id))}
    told = {name: values[name] for name in texts if name in values} if opened == tab else {}
    return drafts | told


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
