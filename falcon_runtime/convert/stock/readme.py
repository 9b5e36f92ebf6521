"""The README of a stock folder: what it is, under what licence, and how it is run."""

from importlib.metadata import version

from ..plan import Plan
from .files import GENERATION, SENTENCEPIECE

HEAD = """\
# {title} for ExecuTorch

{what}

- Licence: {licence}
- Made from: {source}
- The program takes {context:,} tokens of prompt and answer together, and runs {where}.

`model.pte` is the program and `{tokenizer}` the tokenizer: these two are what runs. The others are for whoever
writes the app: the chat template (`chat_template.jinja`, if the model has one) says how messages become a prompt, and
`{generation}` which tokens end an answer and how to sample.
"""
STOCK = """
The three below are ExecuTorch {version}'s own runners. The conversion tried the last one, on Linux (of a program that
has more than 1 GB of weights, its first layers); the others are the same C++ code in an app.

## Android

```kotlin
// build.gradle.kts: implementation("org.pytorch:executorch-android:{version}")
val model = org.pytorch.executorch.extension.llm.LlmModule("$dir/model.pte", "$dir/{tokenizer}", 0f)
model.load()
model.generate(prompt, {context}, callback, false)  // callback: LlmCallback, whose onResult gets each piece of text
```

## iOS

```swift
import ExecuTorchLLM  // of the Swift package pytorch/executorch, branch swiftpm-{version}, with its XNNPACK and kernels
let runner = TextRunner(modelPath: "\\(folder)/model.pte", tokenizerPath: "\\(folder)/{tokenizer}")
try runner.generate(prompt, Config {{ $0.temperature = 0 }}) {{ print($0, terminator: "") }}
```

## Linux and other desktops

```python
import executorch.extension.llm.custom_ops.custom_ops, executorch.kernels.quantized  # pip install executorch=={version}
from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner
TextLLMRunner("model.pte", "{tokenizer}").generate(prompt, GenerationConfig(echo=False, temperature=0.0))
```
"""
NO_CONTROL_TOKENS = """
With this tokenizer no text becomes a control token, such as `<s>`: have the runner put it before a prompt (`num_bos`
of its GenerationConfig), and leave it out of the text. What is no piece of the tokenizer is written byte by byte, as in
`<0xF0>`. `tokenizer.json` is the same tokenizer for other programs.
"""
OPENVINO = """
It takes one token at a time, and OpenVINO has compiled it for its CPU device. Both of these were run by the conversion:

```python
# pip install executorch=={version} 'openvino>=2025.1,<2026'; a newer openvino ends the process
from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner
TextLLMRunner("model.pte", "{tokenizer}").generate(prompt, GenerationConfig(echo=False, temperature=0.0))
```
"""
QNN = """
It takes one token at a time. Qualcomm's SDK has compiled it for one chip, and the conversion has not run it. It takes a
runtime of ExecuTorch {version} with the QNN backend, and of the same SDK `libQnnHtp.so`, `libQnnSystem.so`, and the
`Stub` and `Skel` libraries of the chip's HTP version, where the loader and the NPU find them (`LD_LIBRARY_PATH`,
`ADSP_LIBRARY_PATH`).
"""
PARTS = {
    "stock": ("on the CPU (XNNPACK)", STOCK),
    "openvino": ("on OpenVINO", OPENVINO),
    "qnn": ("on the NPU of {chip}", QNN),
}
"""Where the program of each target runs, and how."""


def readme(plan: Plan, what: str, source: str, tokenizer: str) -> str:
    """`tokenizer` is the name of the file that runs."""
    where, how = PARTS[plan.target]
    if tokenizer == SENTENCEPIECE:
        how = NO_CONTROL_TOKENS + how
    return (HEAD + how).format(
        title=plan.title,
        what=what,
        licence=plan.licence or "that of the model that it was made from",
        source=source,
        context=plan.context,
        where=where.format(chip=plan.chip),
        tokenizer=tokenizer,
        generation=GENERATION,
        version=version("executorch"),
    )
