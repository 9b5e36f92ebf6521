"""All of ExecuTorch's exporter, for what traces a model or lowers one: where only its classes were imported so far, its
parts need one another in circles, so that it is imported as a whole before any of them."""

import executorch.exir

executorch.exir.to_edge  # noqa: B018

from executorch.exir.passes import _quant_patterns_and_replacements  # noqa: E402, F401  Registers embedding_byte.
