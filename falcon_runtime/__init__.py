"""Falcon3 and other Llama models on ExecuTorch: provision, load and generate, with partial output as it comes."""

from .chunk import Chunk, FinishReason, Stats
from .errors import FalconError
from .generation import Generation
from .runtime import FalconRuntime
from .sampling import SamplingParams
from .status import Status
from .text.tools import Tools

__all__ = [
    "Chunk",
    "FalconError",
    "FalconRuntime",
    "FinishReason",
    "Generation",
    "SamplingParams",
    "Stats",
    "Status",
    "Tools",
]
