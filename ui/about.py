"""The view About: what happens from Send to the first word, what this machine reaches, and whose all of it is."""

from collections.abc import Sequence
from html import escape

import gradio as gr

from falcon_runtime.engine import ceilings
from falcon_runtime.fleet import Fleet
from falcon_runtime.models.manifest import Manifest
from falcon_runtime.runtime import FalconRuntime
from falcon_runtime.system.instruction_sets import chosen
from falcon_runtime.system.machine import cpu_name, machine_memory, proc_bytes

from . import views, words
from .runs import INSTANT
from .words import say

PREPARATION = ("checkpoint", "conversion", "program", "kernels")
JOURNEY = ("message", "template", "slot", "prefill", "decode", "sampling")
DECODE, PREFILL, EIGHT = "2.0–2.7 ×", "5.4 ×", "3.6 ×"
"""Figures of the README, of a processor with AVX-512 VNNI: against llama.cpp, and of eight answers against one."""
LINKS = {
    "Falcon LLM": "https://falconllm.tii.ae",
    "ExecuTorch": "https://github.com/pytorch/executorch",
    "Hugging Face": "https://huggingface.co/tiiuae",
}


def build(fleet: Fleet) -> None:
    """Lays the view out. Its figures are those of the moment in which it is opened."""
    with views.view("about", say("about.about")) as opened:
        page = gr.HTML("", elem_id="about-text", apply_default_css=False, padding=False)
    opened.click(lambda: render(fleet), None, page, **INSTANT)


def render(fleet: Fleet) -> str:
    """The view as HTML."""
    links = " · ".join(f'<a href="{url}" target="_blank" rel="noopener">{name}</a>' for name, url in LINKS.items())
    licence = next((choice for choice in fleet.choices() if choice.name == fleet.current.name and choice.licence), None)
    whose = (
        say(
            "about.licensed",
            title=escape(licence.title),
            licence=f'<a href="{escape(licence.licence_url)}" target="_blank" rel="noopener">'
            f"{escape(licence.licence)}</a>",
        )
        if licence
        else ""
    )
    return (
        f"<p>{say('about.story')}</p>"
        f"<h3>{say('about.once')}</h3>{_steps(PREPARATION)}"
        f"<h3>{say('about.each_time')}</h3>{_steps(JOURNEY)}"
        f"<h3>{say('about.here')}</h3>{_table(figures(fleet))}"
        f"<h3>{say('about.elsewhere')}</h3>{_table(elsewhere())}"
        f"<h3>{say('about.whose')}</h3><p>{whose}</p><p>{links}</p>"
    )


def figures(fleet: Fleet) -> list[tuple[str, str]]:
    """What was measured on this machine, by name."""
    runtime = fleet.current
    model = [part for part in (runtime.title, words.kind(runtime)) if part]
    rows = [
        (say("about.processor"), say("about.threads", cpu=cpu_name(), count=fleet.threads, kind=chosen().title)),
        (say("about.model"), say("list.comma").join(model)),
        (say("about.memory"), _memory(runtime)),
    ]
    return rows + _rates(runtime) + _shares(runtime, fleet)


def elsewhere() -> list[tuple[str, str]]:
    """What the README's benchmarks found."""
    return [
        (say("about.llama"), say("about.llama_rates", decode=DECODE, prefill=PREFILL)),
        (say("about.eight"), EIGHT),
    ]


def _memory(runtime: FalconRuntime) -> str:
    """The most that the engine has taken so far, where the system tells, of what there is."""
    peak, whole = proc_bytes(f"{runtime.engine_pid}/status", "VmHWM"), words.number(machine_memory() / 1e9)
    if not peak:
        return say("size.gigabytes", size=whole)
    return say("about.peak", size=words.number(peak / 1e9, 1), whole=whole)


def _rates(runtime: FalconRuntime) -> list[tuple[str, str]]:
    """What the model did when it was loaded: tokens per second, a quarter of its context being filled."""
    forwards = runtime.forwards
    if not forwards:
        return []
    most = max(forwards)
    return [
        (say("about.one"), say("about.rate", rate=words.number(1 / forwards[1]))),
        (say("about.many", count=most), say("about.rate", rate=words.number(most / forwards[most]))),
    ]


def _shares(runtime: FalconRuntime, fleet: Fleet) -> list[tuple[str, str]]:
    """How much of what the machine can do at best the model reaches, where that can be measured now."""
    if runtime.status.state != "ready" or fleet.answering or not isinstance(runtime.manifest, Manifest):
        return []
    try:
        measured = ceilings.known(fleet.threads)
    except EOFError:
        return []
    best, decode, prefill = ceilings.reached(runtime.manifest, runtime.forwards, measured)
    read, products = words.number(best.read_bytes_per_second / 1e9), words.number(best.products_per_second / 1e9)
    rows = [(say("about.of_memory"), say("about.read", share=words.percent(decode), best=read))]
    if prefill:
        reached = say("about.multiplied", share=words.percent(prefill), best=products)
        rows.append((say("about.of_arithmetic"), reached))
    return rows


def _steps(steps: Sequence[str]) -> str:
    items = "".join(
        f"<li><b>{say(f'about.step.{name}')}</b><span>{say(f'about.step.{name}.words')}</span></li>" for name in steps
    )
    return f'<ol class="journey">{items}</ol>'


def _table(rows: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{body}</table>"
