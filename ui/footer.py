"""The bottom of the page: what to expect, and whose model it is."""

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.catalog import CATALOG


def build(runtime: FalconRuntime) -> None:
    """Lays the footer out."""
    entry = CATALOG.get(runtime.name)
    licence = f" {runtime.title} comes under the [{entry.licence}]({entry.licence_url})." if entry else ""
    gr.Markdown(
        "Language models make mistakes: check what matters. What you write is computed on this server and not kept."
        f"{licence}",
        elem_id="footer",
    )
