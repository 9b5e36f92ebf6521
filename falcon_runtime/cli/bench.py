"""What a model does on this machine: loading, prefill, decode, and the memory that it takes.

Rates are in tokens per second and the engine's own (`Stats`), so they leave out this process, except that of several
streams together, which is taken here.
"""

import itertools
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ..engine import ceilings
from ..engine.ceilings import Ceilings
from ..models.manifest import Backend, Manifest
from ..models.reading import AnyManifest
from ..models.recipes import FP32
from ..runtime import FalconRuntime
from ..sampling import SamplingParams
from ..status import Report, Status
from ..system.instruction_sets import chosen
from ..system.machine import cpu_name, default_threads, proc_bytes

PREFILLED = 500
"""Tokens of the prompt whose prefill is measured, where the context holds them."""
DECODED = 64
"""Tokens of every answer whose decode is measured."""
CONTEXTS = (16, 512, 1024, 1900, 4000)
"""Tokens after which answers are decoded, where they fit the context."""
STREAMS = (1, 2, 4, 8)

TEXT = """The river comes down from the hills in the north and runs past the old town to the sea . In the spring the
water is high and brown , and the people who live near it watch the bank at night . In the summer it is slow and clear ,
and the children stand in it to the knee and look for small fish under the stones . A man with a boat will take you to
the other side for a coin , and he will tell you about the year when there was no bridge and no road . """


@dataclass(frozen=True)
class Benchmark:
    """Rates are medians, in tokens per second."""

    model: str
    recipe: str
    context: int
    slots: int
    machine: str
    """The CPU's name."""
    instructions: str
    """What the kernels use of it."""
    threads: int
    memory_bytes_per_second: float
    """That all threads read from memory at best, before and beside all measurements."""
    products_per_second: float
    """Of bytes, that they compute at best."""
    draft: str | None
    """The title of the draft model, whose drafts the rates of decoding have in them; None without one."""
    drafted_tokens: int
    """Tokens that it drafted in all measurements of one answer's decode."""
    accepted_tokens: int
    """How many of them were accepted."""
    load_s: float
    """From the beginning of `load` until the engine is ready, tokenizer included, download and conversion not."""
    program_bytes: int
    """Size of the .pte file."""
    kv_cache_bytes: int | None
    """None for somebody else's program, whose caches are among its activations."""
    peak_rss_bytes: int | None
    """Of the engine's process after all measurements; None where the system does not tell."""
    prefill_tokens: int
    prefill_tokens_per_second: float
    decode_tokens_per_second: dict[int, float]
    """By tokens of context before the answer."""
    decode_shares: dict[int, float]
    """By the same tokens: of the memory's speed, how much decode reads weights and cache with. None with a draft model,
    whose tokens come without a forward each, and for somebody else's program."""
    prefill_share: float | None
    """Of the processor's products, how many prefill does with all layers; None where their weights are floats, and for
    somebody else's program."""
    streams_tokens_per_second: dict[int, float]
    """Of all answers together, by how many are asked for at once; those beyond `slots` wait for their turn."""

    def __str__(self) -> str:
        slots = f"{self.slots} slot{'s' * (self.slots > 1)}"
        figures = {
            "load": f"{self.load_s:7.1f} s",
            "program": f"{self.program_bytes / 1e6:7,.0f} MB",
            "KV cache": f"{self.kv_cache_bytes / 1e6:7,.0f} MB" if self.kv_cache_bytes else "unknown",
            "peak RSS": f"{self.peak_rss_bytes / 1e6:7,.0f} MB" if self.peak_rss_bytes else "unknown",
            "memory read": f"{self.memory_bytes_per_second / 1e9:7.1f} GB/s at best",
            "products": f"{self.products_per_second / 1e9:7.0f} billion/s at best",
            "prefill": f"{self.prefill_tokens_per_second:7.1f} tok/s, {self.prefill_tokens} tokens"
            + (f", {self.prefill_share:.0%} of the products" if self.prefill_share else ""),
        }
        for tokens, rate in self.decode_tokens_per_second.items():
            share = f", {self.decode_shares[tokens]:.0%} of the memory's speed" if tokens in self.decode_shares else ""
            figures[f"decode after {tokens:,}"] = f"{rate:7.1f} tok/s{share}"
        if self.draft:
            figures["drafted"] = f"{self.drafted_tokens:7,}, accepted {self.accepted_tokens:,}: {self.draft}"
        for count, rate in self.streams_tokens_per_second.items():
            figures[f"decode {count} at once"] = f"{rate:7.1f} tok/s together"
        return "\n".join(
            [
                f"{self.model}, {self.recipe}, {self.context:,} tokens of context in {slots}",
                f"{self.machine}, {self.instructions}, {self.threads} thread{'s' * (self.threads > 1)}",
                *(f"  {name:18}{figure}" for name, figure in figures.items()),
            ]
        )


def measure(
    model: str | None = None,
    backend: Backend = "xnnpack",
    threads: int | None = None,
    rounds: int = 3,
    on_status: Report = lambda status: None,
    announce: Callable[[str], None] = lambda text: None,
    draft: str | None = None,
) -> Benchmark:
    """Medians of `rounds`. `on_status` is told how far it is, `announce` why there is no draft model where one might be
    expected. Errors: those of `FalconRuntime.load`."""
    began = time.perf_counter()

    def report(status: Status) -> None:
        nonlocal began
        if status.state == "loading":
            began = time.perf_counter()
        on_status(status)

    with FalconRuntime(model, backend=backend, threads=threads, draft=draft) as runtime:
        runtime.load(on_status=report)
        load_s = time.perf_counter() - began
        if runtime.draft_problem:
            announce(runtime.draft_problem)
        return _measured(runtime, load_s, threads or default_threads(), rounds, on_status)


def _measured(runtime: FalconRuntime, load_s: float, threads: int, rounds: int, on_status: Report) -> Benchmark:
    """The figures of a loaded model."""
    manifest = runtime.manifest
    assert manifest
    meter = Meter(runtime, manifest)
    done, all_of_it = itertools.count(), 2 + len(meter.contexts) + len(STREAMS)

    def begin(what: str) -> None:
        on_status(Status("working", f"Measuring {what},", next(done) / all_of_it))

    begin("what this machine can do at best")
    best = ceilings.measure(threads)

    def median(what: str, rate: Callable[[], float]) -> float:
        """Beside it the machine may turn out to be faster: what a virtual one gets of memory changes by the minute."""
        nonlocal best
        begin(what)
        rates = [rate() for _ in range(rounds)]
        best = best.or_better(ceilings.measure(threads))
        return statistics.median(rates)

    prefill = median("prefill", meter.prefill)
    decode = {
        tokens: median(f"decode after {tokens:,} tokens", partial(meter.decode, tokens)) for tokens in meter.contexts
    }
    streams = {count: median(f"decode, {count} at once", partial(meter.streams, count)) for count in STREAMS}
    own = manifest if isinstance(manifest, Manifest) else None
    packed = own is not None and str(FP32) not in own.schemes
    return Benchmark(
        model=runtime.title,
        recipe=manifest.recipe,
        context=manifest.context,
        slots=manifest.slots,
        machine=cpu_name(),
        instructions=chosen().title,
        threads=threads,
        draft=runtime.draft,
        load_s=load_s,
        program_bytes=manifest.program_bytes,
        kv_cache_bytes=own.shape.kv_cache_bytes(own.context, own.slots, own.cache_bits) if own else None,
        prefill_tokens=len(runtime.tokenize(meter.prompt(PREFILLED))),
        prefill_tokens_per_second=prefill,
        decode_tokens_per_second=decode,
        memory_bytes_per_second=best.read_bytes_per_second,
        products_per_second=best.products_per_second,
        decode_shares=decode_shares(decode, own, best) if own and not runtime.draft else {},
        prefill_share=prefill * own.shape.products / best.products_per_second if own and packed else None,
        streams_tokens_per_second=streams,
        drafted_tokens=meter.drafted,
        accepted_tokens=meter.accepted,
        peak_rss_bytes=meter.peak_rss_bytes(),
    )


def decode_shares(rates: Mapping[int, float], manifest: Manifest, best: Ceilings) -> dict[int, float]:
    """Of the memory's speed, for `rates` by the tokens before an answer of `DECODED`, a forward for each token."""
    return {
        tokens: rate * manifest.bytes_read(tokens + DECODED // 2) / best.read_bytes_per_second
        for tokens, rate in rates.items()
    }


class Meter:
    """Takes one measurement at a time on a loaded model. Answers are greedy, of `DECODED` tokens."""

    def __init__(self, runtime: FalconRuntime, manifest: AnyManifest):
        self.runtime = runtime
        self.drafted = self.accepted = 0
        self.contexts = [tokens for tokens in CONTEXTS if tokens + DECODED <= manifest.context]
        """Of `CONTEXTS`, what the model holds."""
        self._longest = manifest.context - 1
        # An answer must not end before it is measured. And it takes no token that stands in the text already, so that
        # the engine, which looks there, has nothing to draft: without a draft model a forward for each token, whatever
        # the text.
        self.answer = SamplingParams(
            temperature=0,
            max_new_tokens=DECODED,
            logit_bias=dict.fromkeys(manifest.end_tokens, -100),
            repetition_penalty=5,
            stop_on_repetition=False,
        )

    def prompt(self, tokens: int) -> str:
        """A text of so many tokens, or what fits the context; a few less where a word takes several. Shorter ones are
        beginnings of longer ones."""
        limit = min(tokens, self._longest)
        words = TEXT.split()
        words *= limit // len(words) + 1

        def length(count: int) -> int:
            return len(self.runtime.tokenize(" ".join(words[:count])))

        return " ".join(words[: bisect_right(range(1, len(words) + 1), limit, key=length)])

    def prefill(self) -> float:
        """Rate at which a prompt of `PREFILLED` tokens is prefilled."""
        # With a seed nothing is taken from the KV cache.
        params = SamplingParams(temperature=0, max_new_tokens=1, seed=0)
        *_, last = self.runtime.generate(self.prompt(PREFILLED), params)
        return last.stats.prefill_tokens_per_second or 0.0

    def decode(self, tokens: int) -> float:
        """Rate at which an answer to a prompt of `tokens` is decoded. What the cache has of the prompt is not prefilled
        again: asked for in ascending order, long contexts are cheap."""
        *_, last = self.runtime.generate(self.prompt(tokens), self.answer)
        self.drafted += last.stats.drafted_by_model
        self.accepted += last.stats.accepted_by_model
        return last.stats.decode_tokens_per_second or 0.0

    def streams(self, count: int) -> float:
        """Rate at which `count` answers to short prompts are decoded together, from the first token on."""
        prompt = self.prompt(CONTEXTS[0])
        # They run in the engine from here on, whether anyone is reading or not.
        generations = [self.runtime.generate(f"{i} {prompt}", self.answer) for i in range(count)]
        next(chunk for chunk in generations[0] if chunk.token_ids)
        began = time.perf_counter()
        written = 0
        for generation in generations:
            *_, last = generation
            written += last.stats.generated_tokens - 1  # The first one comes from the prompt.
        return written / (time.perf_counter() - began)

    def peak_rss_bytes(self) -> int | None:
        """The most memory that the engine's process has had; None where the system has no /proc."""
        return proc_bytes(f"{self.runtime.engine_pid}/status", "VmHWM")
