"""The bottom of the page: what to expect, whose model it is, and how to use it from code."""

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.catalog import CATALOG


def build(runtime: FalconRuntime) -> None:
    """Lays the footer out."""
    entry = CATALOG.get(runtime.name)
    licence = f"{runtime.title} comes under the [{entry.licence}]({entry.licence_url}). " if entry else ""
    gr.Markdown(
        "Language models make mistakes: check what matters. What you write is computed on this server and not kept. "
        f"{licence}[Use it from code](?view=api).",
        elem_id="footer",
    )
