"""Writes a GGUF file in another type, as llama.cpp itself makes it: what its users run.

python -m benchmarks.requantize SOURCE.gguf TARGET.gguf [Q4_0]
"""

import argparse
import ctypes
from pathlib import Path

import llama_cpp

PREFIX = "LLAMA_FTYPE_MOSTLY_"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("type", nargs="?", default="Q4_0", help="one of llama.cpp's, such as Q4_K_M")
    options = parser.parse_args()
    requantize(options.source, options.target, options.type)


def requantize(source: Path, target: Path, kind: str = "Q4_0") -> None:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = getattr(llama_cpp, PREFIX + kind), True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise SystemExit(f"llama.cpp could not quantize {source}.")


if __name__ == "__main__":
    main()
