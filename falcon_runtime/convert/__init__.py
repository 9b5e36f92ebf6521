"""Conversion: from a checkpoint to a folder with a .pte, its tokenizer and its manifest."""

from ..system.imports import execute_late

# Programs are written with the classes of ExecuTorch's exporter, whose own imports take six seconds of a processor.
execute_late("executorch.exir", "executorch.exir._serialize")

from .conversion import convert  # noqa: E402

__all__ = ["convert"]
