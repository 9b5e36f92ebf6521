"""Converts a checkpoint, a GGUF file or a Hugging Face folder, and continues a text with it.

python examples/convert_checkpoint.py model.gguf converted/my-model
"""

import sys
from pathlib import Path

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.convert import convert


def main(source: str, output: str) -> None:
    folder = convert(source, Path(output).parent, output=Path(output), report=print)
    with FalconRuntime(str(folder)) as runtime:
        for chunk in runtime.generate("Once upon a time", SamplingParams(max_new_tokens=16)):
            print(chunk.text, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
