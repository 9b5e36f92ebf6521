"""The README of a stock folder: what it is, under what licence, and how the three runners load it."""

from importlib.metadata import version

from .files import GENERATION, TOKENIZER

TEXT = """\
# {title} for ExecuTorch

{what}

- Licence: {licence}
- Made from: {source}
- The program takes {context:,} tokens of prompt and answer together, and runs on the CPU (XNNPACK).

`model.pte` is the program and `{tokenizer}` the tokenizer: these two go onto the phone. The others are for whoever
writes the app: the chat template (`chat_template.jinja`, if the model has one) says how messages become a prompt, and
`{generation}` which tokens end an answer and how to sample.

The three below are ExecuTorch {version}'s own runners. The conversion tried the last one, on Linux; the others
are the same C++ code in an app.

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


def readme(title: str, what: str, licence: str, source: str, context: int) -> str:
    return TEXT.format(
        title=title,
        what=what,
        licence=licence or "that of the model that it was made from",
        source=source,
        context=context,
        tokenizer=TOKENIZER,
        generation=GENERATION,
        version=version("executorch"),
    )
