"""Prints an answer as it is written, and what the engine says of it.

python examples/answer.py "Why is the sky blue?"
"""

import sys

from falcon_runtime import FalconRuntime, SamplingParams


def main(question: str, model: str | None = None) -> None:
    with FalconRuntime(model) as runtime:
        answer = runtime.chat([{"role": "user", "content": question}], SamplingParams(max_new_tokens=64))
        for chunk in answer:
            print(chunk.text, end="", flush=True)
    stats = chunk.stats
    print(f"\n[{stats.generated_tokens} tokens, finish reason: {chunk.finish_reason}]")


if __name__ == "__main__":
    main(*sys.argv[1:])
