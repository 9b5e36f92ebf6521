"""Asks several questions at once; the engine answers them in the same forwards.

python examples/many_at_once.py "What is rain?" "What is snow?"
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from falcon_runtime import FalconError, FalconRuntime, SamplingParams


def main(*questions: str, model: str | None = None) -> None:
    with FalconRuntime(model) as runtime, ThreadPoolExecutor(len(questions)) as pool:

        def answer(question: str) -> str:
            try:
                return "".join(chunk.text for chunk in runtime.instruct(question, params=SamplingParams(seed=1)))
            except FalconError as error:  # Its message says what to do.
                return f"({error})"

        for question, text in zip(questions, pool.map(answer, questions), strict=True):
            print(f"{question}\n  {text.strip()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
