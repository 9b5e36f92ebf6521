"""What the process that compiles for Qualcomm is sent, and what it tells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...models.architecture import Architecture


@dataclass(frozen=True)
class Job:
    architecture: Architecture
    context: int
    chip: str
    bits: int
    """Of the layers' weights."""
    texts: list[list[int]]
    """What the model is calibrated on, as token ids."""
    constants: dict[str, Any]
    """The file's constant methods."""
    weights: Path
    """A state dict, float32."""
    program: Path
    """What is to be written."""


@dataclass(frozen=True)
class Calibrated:
    """So many tokens of all; then it compiles."""

    done: int
    total: int
