"""The engine's kernels: the operators that convert/traced/operators.py describes.

They are written in Python, compiled by numba for this very processor, kept for the next start (compiled.py), and called
by ExecuTorch like any other kernel, on whose thread pool they work (abi.py).
"""

from .attention_workspace import Heads
from .registry import KERNELS, Announce

__all__ = ["KERNELS", "Announce", "Heads"]
