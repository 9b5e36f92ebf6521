"""The view About: what happens from Send to the first word, what this machine reaches, and whose all of it is."""

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from falcon_runtime.engine import ceilings
from falcon_runtime.fleet import Fleet
from falcon_runtime.models.manifest import Manifest
from falcon_runtime.runtime import FalconRuntime
from falcon_runtime.system.instruction_sets import chosen
from falcon_runtime.system.machine import cpu_name, machine_memory, proc_value

from . import views
from .runs import INSTANT

STORY = (
    "Everything here runs on the processor of one ordinary computer: no graphics card, and no service of others. "
    "What you write goes to that computer, is answered, and is not kept there."
)
JOURNEY = (
    ("Your message", "It stays in this browser; the server sees it with each request."),
    ("Chat template and tokenizer", "The conversation becomes the tokens that the model was trained on."),
    ("A slot", "Each conversation has one, with a KV cache: what was read before is not read again."),
    ("Prefill", "The new tokens go through all layers at once, many at a time."),
    ("Decode", "Each further token takes one more pass over the weights; drafted tokens share it."),
    ("Sampling", "The settings choose among the likeliest tokens, and the word is on its way to you."),
)
PREPARATION = (
    ("Checkpoint", "The weights as published, from Hugging Face or a GGUF file."),
    ("Conversion", "They are rounded to 4 or 8 bits, 32 at a time, and written into one program."),
    ("The .pte program", "ExecuTorch maps it into memory; loading takes seconds."),
    ("Kernels", "Compiled for this very processor, and kept for the next start."),
)
ELSEWHERE = (
    ("Starter, int4, against llama.cpp on the same file (AVX-512 VNNI)", "decode 1.7 to 2.1 ×, prefill 4.0 ×"),
    ("Eight answers at once against one, all together (AVX-512 VNNI)", "3.2 ×"),
)
"""Figures of the README."""
LINKS = (
    ("Falcon LLM", "https://falconllm.tii.ae"),
    ("ExecuTorch", "https://github.com/pytorch/executorch"),
    ("Models on Hugging Face", "https://huggingface.co/tiiuae"),
)


def build(fleet: Fleet) -> None:
    """Lays the view out. Its figures are those of the moment in which it is opened."""
    with views.view("about", "About this page") as opened:
        page = gr.HTML("", elem_id="about-text", apply_default_css=False, padding=False)
    opened.click(lambda: render(fleet), None, page, **INSTANT)


def render(fleet: Fleet) -> str:
    """The view as HTML."""
    links = " · ".join(f'<a href="{url}" target="_blank" rel="noopener">{name}</a>' for name, url in LINKS)
    licence = next((choice for choice in fleet.choices() if choice.name == fleet.current.name and choice.licence), None)
    whose = (
        f'{escape(licence.title)} is licensed under <a href="{escape(licence.licence_url)}" target="_blank" '
        f'rel="noopener">{escape(licence.licence)}</a>. {escape(licence.licence_summary)}'
        if licence
        else ""
    )
    return (
        f"<p>{STORY}</p>"
        f"<h3>Once: from a checkpoint to a program</h3>{_steps(PREPARATION)}"
        f"<h3>Each time: from Send to the first word</h3>{_steps(JOURNEY)}"
        f"<h3>This machine now</h3>{_table(figures(fleet))}"
        f"<h3>Elsewhere, measured side by side</h3>{_table(ELSEWHERE)}"
        f"<h3>Whose it is</h3><p>{whose}</p><p>{links}</p>"
    )


def figures(fleet: Fleet) -> list[tuple[str, str]]:
    """What was measured on this machine, by name."""
    runtime = fleet.current
    rows = [
        ("Processor", f"{cpu_name()}, {fleet.threads} threads, {chosen().title}"),
        ("Model", f"{runtime.title}, {runtime.description}" if runtime.description else runtime.title),
        ("Memory of the engine", f"{_engine_memory(runtime)}of {machine_memory() / 1e9:.0f} GB"),
    ]
    return rows + _rates(runtime) + _shares(runtime, fleet)


def _engine_memory(runtime: FalconRuntime) -> str:
    """The most that the engine has taken so far; empty where the system does not tell."""
    peak = proc_value(f"{runtime.engine_pid}/status", "VmHWM")  # "954880 kB"
    return f"{int(peak.split()[0]) / 1e6:.1f} GB at most " if peak else ""


def _rates(runtime: FalconRuntime) -> list[tuple[str, str]]:
    """What the model did when it was loaded: tokens per second, a quarter of its context being filled."""
    forwards = runtime.forwards
    if not forwards:
        return []
    most = max(forwards)
    return [
        ("Decode, one answer", f"{1 / forwards[1]:,.0f} tokens per second"),
        (f"Decode, {most} tokens at once", f"{most / forwards[most]:,.0f} tokens per second"),
    ]


def _shares(runtime: FalconRuntime, fleet: Fleet) -> list[tuple[str, str]]:
    """How much of what the machine can do at best the model reaches, where that can be measured now."""
    if runtime.status.state != "ready" or fleet.answering or not isinstance(runtime.manifest, Manifest):
        return []
    try:
        best = ceilings.known(fleet.threads)
    except EOFError:
        return []
    share = ceilings.reached(runtime.manifest, runtime.forwards, best)
    rows = [("Of the speed of memory", f"{share.decode:.0%} (at best {best.read_bytes_per_second / 1e9:.0f} GB/s)")]
    if share.prefill:
        products = f"{best.products_per_second / 1e9:.0f} billion products of bytes a second"
        rows.append(("Of the processor's arithmetic", f"{share.prefill:.0%} (at best {products})"))
    return rows


def _steps(steps: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<li><b>{escape(name)}</b><span>{escape(words)}</span></li>" for name, words in steps)
    return f'<ol class="journey">{items}</ol>'


def _table(rows: Sequence[tuple[Any, Any]]) -> str:
    body = "".join(f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{body}</table>"
