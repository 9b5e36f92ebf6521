"""A loaded .pte: one ragged forward over the slots' new tokens."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelDamaged
from ..manifest import PROGRAM, Manifest

Logits = NDArray[np.float32]


class ForwardProgram(Protocol):
    """What the scheduler needs of a program; tests give it a fake one."""

    slots: int
    context: int
    max_tokens: int
    max_rows: int

    def forward(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]) -> Logits:
        """Logits [len(rows), vocabulary] of the batch rows `rows`, valid until the next call.

        `tokens` holds each slot's new tokens (at least one each), `starts` the position of each slot's first; a row
        is an index into the slots' tokens laid end to end.
        """


class Program:
    """A `ForwardProgram` on ExecuTorch. Wrong shapes would abort the process, so the caller keeps within the limits."""

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None):
        # The extension itself, not portable_lib, which re-exports it: that one brings in the whole exporter, which
        # takes seconds and 130 MB. It needs torch's libraries to be loaded first.
        import torch
        from executorch.extension.pybindings import _C as runtime

        _load_operators(torch)
        runtime._unsafe_reset_threadpool(threads or default_threads())
        self.slots, self.context = manifest.slots, manifest.context
        self.max_tokens, self.max_rows = manifest.max_tokens, manifest.max_rows
        try:
            self._module = runtime._load_for_executorch(str(folder / PROGRAM))
            self._check(manifest)
        except RuntimeError as error:
            raise ModelDamaged(
                f"ExecuTorch cannot load {folder / PROGRAM} ({error}). Convert the model again."
            ) from error
        self._tensor = torch.tensor
        self.forward([[0]] * self.slots, [0] * self.slots, [0])  # Loads the method, packs the weights.

    def _check(self, manifest: Manifest) -> None:
        """That the program has the signature its manifest describes: calling another one would abort the process."""
        expected = [
            [1, manifest.max_tokens],
            [manifest.max_tokens],
            [manifest.slots],
            [manifest.slots],
            [manifest.max_rows],
            [1, manifest.max_rows, manifest.vocabulary],
        ]
        found: list[list[int]] = []
        if "forward" in self._module.method_names():
            meta = self._module.method_meta("forward")
            found = [list(meta.input_tensor_meta(i).sizes()) for i in range(meta.num_inputs())]
            found += [list(meta.output_tensor_meta(i).sizes()) for i in range(meta.num_outputs())]
        if found != expected:
            raise ModelDamaged(
                f"{PROGRAM} is not the program that the manifest describes: its forward has the shapes {found}, not "
                f"{expected}. It is of another architecture or exporter; convert the model with this project."
            )

    def forward(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]) -> Logits:
        counts = [len(part) for part in tokens]
        positions = [start + i for start, count in zip(starts, counts, strict=True) for i in range(count)]
        batch = [token for part in tokens for token in part]
        inputs = tuple(self._tensor(values) for values in ([batch], positions, starts, counts, rows))
        logits = self._module.forward(inputs, clone_outputs=False)[0]
        result: Logits = logits[0].numpy()
        return result


def _load_operators(torch: Any) -> None:
    """Registers the kernels that the programs call beyond ExecuTorch's own: llama.* and quantized embeddings."""
    import executorch

    root = Path(next(iter(executorch.__path__)))
    for pattern in (
        "extension/llm/custom_ops/*custom_ops_aot_lib.*",
        "kernels/quantized/*quantized_ops_aot_lib.*",
    ):
        (library,) = root.glob(pattern)
        torch.ops.load_library(library)


def default_threads() -> int:
    """The CPUs that this process may really use: a container's share, not the host's count."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, round(int(quota) / int(period))))
