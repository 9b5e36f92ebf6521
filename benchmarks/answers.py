"""How good a model's first answers are with the page's own defaults: `python -m benchmarks.answers MODEL`.

Questions of every kind that visitors send, in all tabs and several languages, each asked several times; a pattern
tells whether an answer is right. Counted are right answers, loops, those that the engine did not notice, and answers
that were cut off at the limit. A question is known if most of its answers are right: what the model knows, the defaults
should let it say. `--system` and `--sampling` try other defaults than the model's own.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.generation import Generation

from .questions import QUESTIONS, Question

AT_ONCE = 8
LOOP = re.compile(r"(.{2,200}?)\1{7,}|(.{40,400}?)\2{3,}", re.DOTALL)
"""The same words again and again, told from the text alone."""


@dataclass(frozen=True)
class Sample:
    """One answer to a question."""

    question: Question
    text: str
    finish_reason: str

    @property
    def right(self) -> bool:
        return self.question.accepts(self.text) and not self.loops

    @cached_property
    def loops(self) -> bool:
        return self.finish_reason == "repetition" or bool(LOOP.search(self.text))

    @cached_property
    def unnoticed(self) -> bool:
        """Whether it still loops where the limit cuts it off: nothing but part of a copy comes after the copies."""
        if self.finish_reason != "length":
            return False
        loops = list(LOOP.finditer(self.text))
        return bool(loops) and len(self.text) - loops[-1].end() < len(loops[-1].group(1) or loops[-1].group(2))


def ask(runtime: FalconRuntime, question: Question, params: SamplingParams, system: str) -> Sample:
    """Asks as the question's tab does."""
    generation: Generation
    if question.tab == "generate":
        generation = runtime.generate(question.prompt, params)
    elif question.tab == "instruct":
        generation = runtime.instruct(question.prompt, question.context, system, params)
    else:
        turns = [*question.before, question.prompt]
        messages = [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
        messages[:0] = [{"role": "system", "content": system}] if system else []
        generation = runtime.chat(messages, params)
    chunks = list(generation)
    return Sample(question, "".join(chunk.text for chunk in chunks), str(chunks[-1].finish_reason))


def table(samples: Sequence[Sample]) -> str:
    """The counts as a Markdown table, by tab and kind, by language, and of all."""
    lines = [
        "| tab | kind | questions | right | known | right of known | loops | unnoticed | at the limit |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: list[tuple[str, Callable[[Sample], tuple[str, str]]]] = [
        ("kind", lambda sample: (sample.question.tab, sample.question.kind)),
        ("language", lambda sample: ("all", sample.question.language)),
        ("all", lambda sample: ("all", "all")),
    ]
    for _, key in groups:
        for name, group in groupby(sorted(samples, key=key), key):
            lines.append(f"| {' | '.join(name)} | {' | '.join(_row(list(group)))} |")
    return "\n".join(lines)


def _row(samples: Sequence[Sample]) -> list[str]:
    by_question: dict[Question, list[Sample]] = {}
    for sample in samples:
        by_question.setdefault(sample.question, []).append(sample)
    known = [group for group in by_question.values() if 2 * sum(sample.right for sample in group) > len(group)]
    known_samples = [sample for group in known for sample in group]
    return [
        str(len(by_question)),
        _share(sample.right for sample in samples),
        str(len(known)),
        _share(sample.right for sample in known_samples),
        str(sum(sample.loops for sample in samples)),
        str(sum(sample.unnoticed for sample in samples)),
        _share(sample.finish_reason == "length" for sample in samples),
    ]


def _share(counted: Iterable[bool]) -> str:
    values = list(counted)
    return f"{sum(values) / len(values):.0%}" if values else "-"


def worst_run(samples: Sequence[Sample], runs: int) -> tuple[int, int]:
    """Of the plainest facts: how many were right in the worst of the runs, and how many there are."""
    plain = [sample for sample in samples if sample.question.kind == "plainest facts"]
    counts = [sum(sample.right for sample in plain[run::runs]) for run in range(runs)]
    return min(counts), len(plain) // runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="a catalogue name, or a model's folder, which has no defaults of ours")
    parser.add_argument("--samples", type=int, default=10, help="how often each question is asked")
    parser.add_argument("--system", help="another system prompt than the model's own; empty for none")
    parser.add_argument("--sampling", type=json.loads, default={}, help="other sampling parameters, as JSON")
    parser.add_argument("--show", action="store_true", help="print every answer that is not right")
    options = parser.parse_args()
    with FalconRuntime(options.model) as runtime, ThreadPoolExecutor(AT_ONCE) as threads:
        runtime.load()
        params = SamplingParams(**options.sampling).over(runtime.defaults.sampling)
        system = runtime.defaults.system if options.system is None else options.system
        jobs = [
            threads.submit(ask, runtime, question, params, system)
            for question in QUESTIONS
            for _ in range(options.samples)
        ]
        samples = [job.result() for job in jobs]
    for sample in samples if options.show else ():
        if not sample.right:
            question = sample.question
            print(f"--- {question.tab}, {question.kind}: {question.prompt}\n{sample.finish_reason}: {sample.text}")
    print(f"System prompt: {system or 'none'}\nSampling: {params.model_dump(exclude_defaults=True)}\n")
    print(table(samples))
    worst, of = worst_run(samples, options.samples)
    print(f"\nPlainest facts: in the worst of {options.samples} runs {worst} of {of} right.")


if __name__ == "__main__":
    main()
