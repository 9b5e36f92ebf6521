"""Several visitors behind one long system prompt: how long each waits for the first token.

    python -m benchmarks.visitors [MODEL] [--tokens 1000] [--visitors 8] [--rounds 5] [--threads 2]

They come one after the other, or all at once behind a system prompt that one more has asked behind before, or all at
once behind one that is new; and each asks a first question and a second one. The engine is a new one each time, so that
its slots are empty.
"""

import argparse
import statistics
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from falcon_runtime import FalconRuntime, SamplingParams, Stats
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.library import default_models_dir
from falcon_runtime.system.machine import cpu_name, default_threads
from falcon_runtime.text.turns import Message

from .drafting import TEXT

QUESTIONS = [
    "What does the fox sell in his shop?",
    "Who buys the apples in the morning?",
    "When does he open the shutters?",
    "Where does Rolo keep his shop?",
    "Why do the fishermen come by?",
    "How many baskets of apples are there?",
    "Which town does the story tell of?",
    "Does Rolo count his coins at noon?",
]
PARAMS = SamplingParams(temperature=0, max_new_tokens=8)
ONE_BY_ONE, AT_ONCE, NEW = "one after the other", "all at once", "all at once, the prompt being new"
SECOND_TURN = f"second turn, {ONE_BY_ONE}"


class Visitors:
    """Ask, and keep what the engine says of each answer, by what is measured."""

    def __init__(self, runtime: FalconRuntime, tokens: int, visitors: int, stats: dict[str, list[Stats]]):
        self._runtime, self._stats = runtime, stats
        words = TEXT.split() * tokens

        def length(count: int) -> int:
            return len(runtime.tokenize(" ".join(words[:count])))

        enough = bisect_left(range(tokens), tokens, key=length)
        self._system: Message = {"role": "system", "content": " ".join(words[:enough])}
        self._first_turns = [self._begun(QUESTIONS[i % len(QUESTIONS)]) for i in range(visitors)]

    def come(self, how: str) -> None:
        if how == ONE_BY_ONE:
            first, *others = [[messages] for messages in self._first_turns]
            answered = [self._ask("the first of all", first), *(self._ask(f"first turn, {how}", one) for one in others)]
        else:
            if how == AT_ONCE:
                self._ask("the first of all", [self._begun("Who is Rolo?")])
            answered = [self._ask(f"first turn, {how}", self._first_turns)]
        for group in answered:
            self._ask(f"second turn, {how}", [[*one, *user("And what do they do afterwards?")] for one in group])

    def _begun(self, question: str) -> list[Message]:
        return [self._system, *user(question)]

    def _ask(self, measured: str, conversations: Sequence[list[Message]]) -> list[list[Message]]:
        """All at once; the conversations with their answers."""
        # They run in the engine from here on, whether anyone is reading or not.
        generations = [self._runtime.chat(messages, PARAMS) for messages in conversations]
        answered = []
        for messages, generation in zip(conversations, generations, strict=True):
            chunks = list(generation)
            self._stats[measured].append(chunks[-1].stats)
            answered.append([*messages, {"role": "assistant", "content": "".join(chunk.text for chunk in chunks)}])
        return answered


def user(question: str) -> list[Message]:
    return [{"role": "user", "content": question}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=STARTER.name)
    parser.add_argument("--tokens", type=int, default=1000, help="of the system prompt")
    parser.add_argument("--visitors", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--models-dir", type=Path, default=default_models_dir())
    options = parser.parse_args()
    stats: dict[str, list[Stats]] = defaultdict(list)
    for how in (ONE_BY_ONE, AT_ONCE, NEW) * options.rounds:
        with FalconRuntime(options.model, options.models_dir, threads=options.threads, draft="none") as runtime:
            runtime.load()
            Visitors(runtime, options.tokens, options.visitors, stats).come(how)
    print(f"{runtime.title}, {runtime.recipe}; {cpu_name()}, {options.threads} threads\n")
    print_table(stats)


def print_table(stats: Mapping[str, Sequence[Stats]]) -> None:
    times = {measured: [first_token_ms(each) for each in of_all] for measured, of_all in stats.items()}
    medians = {measured: statistics.median(of_all) for measured, of_all in times.items()}
    print("| | cached tokens | others | first token | longest | times a second turn |")
    print("|---" * 6 + "|")
    for measured, of_all in stats.items():
        cached = statistics.median(each.cached_tokens for each in of_all)
        others = statistics.median(each.prompt_tokens - each.cached_tokens for each in of_all)
        ratio = medians[measured] / medians[SECOND_TURN]
        figures = f"{cached:.0f} | {others:.0f} | {medians[measured]:.0f} ms | {max(times[measured]):.0f} ms"
        print(f"| {measured} | {figures} | {ratio:.2f} |")


def first_token_ms(stats: Stats) -> float:
    """Milliseconds from a request's arrival in the engine to its first token."""
    return 1000 * (stats.time_to_first_token_s or 0.0)


if __name__ == "__main__":
    main()
