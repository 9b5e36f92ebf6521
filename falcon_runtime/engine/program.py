"""A loaded .pte: one ragged forward over the slots' new tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelDamaged
from ..models.architecture import cache_tokens
from ..models.manifest import PROGRAM, Manifest
from ..models.recipes import PACKED
from ..system.machine import default_threads
from .kernels import KERNELS, Announce, Heads, abi, abi_check
from .module import Module

Logits = NDArray[np.float32]


class ForwardProgram(Protocol):
    """What the scheduler needs of a program; tests give it a fake one."""

    slots: int
    context: int
    max_tokens: int
    max_rows: int
    copies: bool
    """Whether it has `copy`."""
    rewinds: bool
    """Whether a slot can go back to any position, whose tokens are then written over. Else it goes on, or begins
    anew."""

    def forward(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]) -> Logits:
        """Logits [len(rows), vocabulary] of the batch rows `rows`, valid until the next call.

        `tokens` holds each slot's new tokens, at least one in all, and `starts` the position of each slot's first. A
        row is an index into the slots' tokens laid end to end; there may be none.
        """

    def copy(self, source: int, target: int, count: int) -> None:
        """Gives the slot `target` the keys and values of the first `count` tokens of the slot `source`."""


class Program:
    """A `ForwardProgram` of this project's own. Wrong shapes would abort the process, so the caller keeps within the
    limits."""

    copies = rewinds = True

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None, announce: Announce = lambda: None):
        abi_check.check(Module)
        abi.use_threads(threads or default_threads())
        _use_kernels(manifest, announce)
        self.slots, self.context = manifest.slots, manifest.context
        self.max_tokens, self.max_rows = manifest.max_tokens, manifest.max_rows
        try:
            self._module = Module(str(folder / PROGRAM))
            self._check(manifest)
            # Loads the method, with fp32 packs the weights, and fails if the caches are smaller than the manifest says.
            self._caches = KERNELS.caches_of(
                lambda: self.forward([[]] * (self.slots - 1) + [[0]], [self.context - 1] * self.slots, [0])
            )
        except RuntimeError as error:
            raise ModelDamaged(
                f"ExecuTorch cannot load {folder / PROGRAM} ({error}). Convert the model again."
            ) from error

    def _check(self, manifest: Manifest) -> None:
        """That the program has the signature its manifest describes: calling another one would abort the process."""
        inputs = [[1, manifest.max_tokens], [manifest.max_tokens], [manifest.max_tokens], [manifest.max_rows]]
        logits = [1, manifest.max_rows, manifest.vocabulary]
        expected = [(abi.LONG, shape) for shape in inputs], [(abi.FLOAT, logits)]
        if (found := self._module.signature()) != expected:
            raise ModelDamaged(
                f"{PROGRAM} is not the program that the manifest describes: the types and shapes of its forward are "
                f"{found}, not {expected}. It is of another architecture or exporter; convert the model with this "
                "project."
            )

    def forward(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]) -> Logits:
        batch, positions, sequences = list[int](), list[int](), list[int]()
        for slot, (new, start) in enumerate(zip(tokens, starts, strict=True)):
            batch += new
            positions += range(start, start + len(new))
            sequences += [slot] * len(new)
        inputs = [np.array(numbers, np.int64) for numbers in ([batch], positions, sequences, rows or [0])]
        logits: Logits = self._module.forward(inputs)[0]
        return logits[: len(rows)]

    def copy(self, source: int, target: int, count: int) -> None:
        # Keys lie in blocks, and a block that is begun is copied whole: what is too much will be written over.
        whole = cache_tokens(count)
        for cache in self._caches:
            cache[target, :, :whole] = cache[source, :, :whole]


def _use_kernels(manifest: Manifest, announce: Announce) -> None:
    """Makes the kernels known that the program calls beyond ExecuTorch's own."""
    shape = manifest.shape
    heads = Heads(shape.heads // shape.kv_heads, shape.kv_heads, shape.head_dim, manifest.cache_bits)
    KERNELS.use_pool()
    KERNELS.use_attention(heads, announce)
    if packed := {scheme for scheme in PACKED if str(scheme) in manifest.schemes}:
        KERNELS.use_products(packed, max(inputs for _, inputs in shape.linear.values()), announce)
