"""What drafting gains and costs: the same answers with it and without, in turns.

    python -m benchmarks.drafting MODEL_FOLDER [--draft FOLDER] [--rounds 5] [--threads 2]

With `--draft`, that model drafts too. Some of the questions make the model repeat what it was given, others leave it
nothing to copy.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from falcon_runtime.engine.process import ENVIRONMENT
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.system.child import subprocess_env
from falcon_runtime.system.machine import available_memory, cpu_name, default_threads
from falcon_runtime.text.encoder import Encoder
from falcon_runtime.text.prompt import encode_chat
from falcon_runtime.text.tokenizer import load_tokenizer

TEXT = """In the old town of Harwick there lived a fox named Rolo, who kept a small shop by the harbour. Every morning \
the fox opened the shutters, swept the floor, and set out three baskets of apples. The fishermen came by after dawn \
and bought what they needed. In the evening the fox counted the coins, closed the shop, and walked home."""
RECORD = """name: Ada Bergmann\nstreet: 14 Mill Lane\ncity: Harwick\nphone: 555 0137\nsince: 12 March 2019\n\
order: three baskets of apples, one jar of honey\npaid: yes"""
QUESTIONS = {
    "rewrite": f"Rewrite this text, and change the name Rolo to Max:\n\n{TEXT}",
    "repeat": f"Repeat this text word for word:\n\n{TEXT}",
    "extract": f"Give this record as JSON, with all of its fields:\n\n{RECORD}",
    "story": "Write a short story about a lighthouse keeper who finds a letter.",
    "explain": "Explain how rain forms.",
    "list": "Name ten animals and say one thing about each.",
}
PARAMS = SamplingParams(temperature=0, max_new_tokens=160, stop_on_repetition=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a converted model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--draft", type=Path, help="folder of a converted model that drafts for it")
    options = parser.parse_args()
    use_engine_environment(__spec__.name)
    measure(options.model, options.draft, options.rounds, options.threads)


def use_engine_environment(module: str) -> None:
    """Begins the program `module` again unless it has the environment of an engine's process: where the engine lives in
    this very process, that is needed from the start."""
    if os.environ.get("GLIBC_TUNABLES") != ENVIRONMENT["GLIBC_TUNABLES"]:
        command = [sys.executable, "-m", module, *sys.argv[1:]]
        raise SystemExit(subprocess.call(command, env=subprocess_env(**ENVIRONMENT)))


def measure(model: Path, draft: Path | None, rounds: int, threads: int) -> None:
    """Prints a table: what drafting gains on each question."""
    from falcon_runtime.engine.huge_pages import HugePages
    from falcon_runtime.engine.request import Request
    from falcon_runtime.engine.scheduler import Scheduler
    from falcon_runtime.engine.worker import load_draft, load_program, measure_costs, pace_of

    manifest = read_manifest(model)
    encoder = Encoder(load_tokenizer(model, manifest))
    weights = HugePages(available_memory)
    program = load_program(model, manifest, threads, lambda: None, weights)
    costs = measure_costs(program)
    draft_model = load_draft(draft, threads, lambda: None, weights) if draft else None
    weights.move(math.inf)

    def answer(tokens: list[int], drafting: bool) -> tuple[float, list[int], int, int]:
        """Tokens per second after the first, the tokens, and how many were drafted and accepted."""
        by_model = draft_model if drafting else None
        scheduler = Scheduler(program, manifest.end_tokens, pace_of(costs), costs if drafting else [1.0], by_model)
        scheduler.submit(Request(0, tokens, PARAMS))
        steps = []
        while scheduler.busy:
            steps += [(time.perf_counter(), step) for step in scheduler.step()]
        first = next(at for at, step in steps if step.token_ids)
        written = [token for _, step in steps for token in step.token_ids]
        last, stats = steps[-1][0], steps[-1][1].stats
        return (len(written) - 1) / (last - first), written, stats.drafted_tokens, stats.accepted_tokens

    print("| | tokens | without | drafting | gain | drafted | accepted | same tokens |")
    print("|---" * 8 + "|")
    for name, question in QUESTIONS.items():
        tokens = encode_chat(encoder, [{"role": "user", "content": question}], manifest.context, 1).tokens
        plain, drafting = [], []
        for _ in range(rounds):
            plain.append(answer(tokens, False))
            drafting.append(answer(tokens, True))
        rates = [statistics.median(run[0] for run in runs) for runs in (plain, drafting)]
        _, written, drafted, accepted = drafting[0]
        same = next((i for i, (a, b) in enumerate(zip(plain[0][1], written, strict=False)) if a != b), len(written))
        print(f"| {name} | {len(written)} | {rates[0]:.0f} | {rates[1]:.0f} | {rates[1] / rates[0]:.2f} | {drafted} | "
              f"{accepted} | {same} |", flush=True)  # fmt: skip
    print(f"\n{cpu_name()}, {threads} threads, medians of {rounds} rounds")


if __name__ == "__main__":
    main()
