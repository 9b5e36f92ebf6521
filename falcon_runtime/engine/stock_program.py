"""A program that somebody else has exported, as a `ForwardProgram`: a method instance for each slot, called as often as
it takes to give what is asked for."""

from collections.abc import Iterator, Sequence

import numpy as np

from ..errors import ModelDamaged, UnsupportedProgram
from ..models.stock.contract import Contract
from ..models.stock.manifest import StockManifest
from ..models.stock.program_file import Method
from ..system.machine import default_threads
from .kernels import abi, abi_check
from .module import Module
from .program import Logits

BACKENDS = {
    "XnnpackBackend": "libexecutorch_backend_xnnpack",
    "OpenvinoBackend": "libexecutorch_backend_openvino",
    "QnnBackend": "libexecutorch_backend_qnn",
}
"""Those that can be run, with ExecuTorch's part of each. They make themselves known to it, be the libraries that they
call there or not: whether these are, is checked before (`models/backends.py`)."""


class StockProgram:
    """Keys and values of a slot are in its own instance, out of reach: nothing is copied from one to another.

    Errors: UnsupportedProgram where operators or backends are missing here, ModelDamaged where ExecuTorch cannot load
    the program, or its caches are smaller than it says.
    """

    copies = False

    def __init__(self, manifest: StockManifest, threads: int | None):
        abi_check.check(Module)
        abi.use_threads(threads or default_threads())
        if problem := missing(manifest.method):
            raise UnsupportedProgram(f"{manifest.program.path} {problem}.")
        for name in manifest.method.backends:
            abi.use_backend(BACKENDS[name])
        self.slots, self.context, self.rewinds = manifest.slots, manifest.context, manifest.contract.rewinds
        self.max_tokens, self.max_rows = manifest.max_tokens, manifest.max_rows
        kind = CachedText if manifest.contract.cached else WholeText
        try:
            self._texts = [kind(_module(manifest), manifest.contract) for _ in range(self.slots)]
            for text in self._texts:  # Loads the method, packs its weights, and fails if the caches are smaller.
                text.try_out()
        except RuntimeError as error:
            raise ModelDamaged(
                f"ExecuTorch cannot run {manifest.program.path} ({error}): it is damaged, its .ptd file is missing or "
                f"another's, or it has no room for the {self.context:,} tokens that it promises. Export it again."
            ) from error

    def forward(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]) -> Logits:
        found, first = dict[int, Logits](), 0
        for text, new, start in zip(self._texts, tokens, starts, strict=True):
            if new:
                wanted = [row - first for row in rows if first <= row < first + len(new)]
                found |= {first + row: logits for row, logits in text.feed(new, start, wanted)}
            first += len(new)
        return np.stack([found[row] for row in rows]) if rows else np.empty((0, 0), np.float32)

    def copy(self, source: int, target: int, count: int) -> None:
        raise NotImplementedError


class CachedText:
    """The text of a slot, whose keys and values are in a program's caches."""

    def __init__(self, module: Module, contract: Contract):
        self._module, self._contract = module, contract
        self._tokens: list[int] = []

    def try_out(self) -> None:
        """Errors: RuntimeError unless there is room up to the last token of the context."""
        self._call([0] * self._least, self._contract.context - self._least)

    def feed(self, new: Sequence[int], start: int, rows: Sequence[int]) -> Iterator[tuple[int, Logits]]:
        """The text goes on with `new` from `start` on. Gives those of `rows`, numbers of new tokens, with their
        logits."""
        _check_room(new, start, self._contract)
        _write(self._tokens, new, start)
        begin, count = 0, len(new)
        for end in _ends(count, self._contract, rows):
            # A program of a fixed length takes more than there is: what follows will be written over, or, where the
            # context ends, what was there before is written again.
            first = min(start + begin, self._contract.context - max(self._least, end - begin))
            logits = self._call(self._tokens[first : start + end], first)
            for row in (row for row in rows if begin <= row < end):
                yield row, logits[start + row - first if self._contract.all_rows else -1].copy()
            begin = end

    @property
    def _least(self) -> int:
        """Tokens that a call takes at least."""
        return self._contract.step if self._contract.fixed else 1

    def _call(self, tokens: Sequence[int], start: int) -> Logits:
        """Logits [tokens or 1, vocabulary]."""
        padded = [*tokens, *[0] * (self._least - len(tokens))]
        one = len(self._contract.positions) == 1 and self._contract.positions[0] == 1
        positions = np.array([start] if one else range(start, start + len(padded)), self._contract.integers[1])
        if len(self._contract.positions) == 2:
            positions = positions[None]
        inputs = [np.array([padded], self._contract.integers[0]), positions]
        return self._module.forward(inputs).reshape(-1, self._contract.vocabulary)


class WholeText:
    """The text of a slot, all of which is computed when logits are wanted."""

    def __init__(self, module: Module, contract: Contract):
        self._module, self._contract = module, contract
        self._tokens: list[int] = []

    def try_out(self) -> None:
        """Errors: RuntimeError."""
        self._call([0])

    def feed(self, new: Sequence[int], start: int, rows: Sequence[int]) -> Iterator[tuple[int, Logits]]:
        """As of `CachedText`."""
        _check_room(new, start, self._contract)
        _write(self._tokens, new, start)
        if rows and self._contract.all_rows:
            logits = self._call(self._tokens)
            yield from ((row, logits[start + row].copy()) for row in rows)
        else:
            yield from ((row, self._call(self._tokens[: start + row + 1])[-1].copy()) for row in rows)

    def _call(self, tokens: Sequence[int]) -> Logits:
        padding = [0] * (self._contract.step - len(tokens) if self._contract.fixed else 0)
        inputs = [np.array([[*tokens, *padding]], self._contract.integers[0])]
        return self._module.forward(inputs).reshape(-1, self._contract.vocabulary)


def missing(method: Method) -> str:
    """What it needs that is not here, in words that go on from its name; empty if all is there."""
    abi.use_own_kernels()
    if not abi.registered_operators().issuperset(method.operators):
        abi.use_kernels_of_language_models()
    backends = sorted(set(method.backends) - BACKENDS.keys())
    operators = sorted(set(method.operators) - abi.registered_operators())
    if operators:
        return (
            f"needs operators that are not here: {', '.join(operators)}. Export it with ExecuTorch's own operators and "
            "the partitioner of XNNPACK"
        )
    if backends:
        return f"is for {' and '.join(backends)}, which cannot run here. Export it for XNNPACK, which runs on every CPU"
    return ""


def _ends(count: int, contract: Contract, rows: Sequence[int]) -> list[int]:
    """Where the calls end that feed `count` tokens: none takes more than it can, and where only the last token of a
    call has logits, each of `rows` is one."""
    cuts = sorted({count, *(() if contract.all_rows else (row + 1 for row in rows))})
    ends, begin = list[int](), 0
    for cut in cuts:
        ends += [*range(begin + contract.step, cut, contract.step), cut]
        begin = cut
    return ends


def _write(text: list[int], new: Sequence[int], start: int) -> None:
    """A text that is too short is filled up: so it is where somebody measures how long a call takes."""
    text += [0] * (start - len(text))
    text[start:] = new


def _check_room(new: Sequence[int], start: int, contract: Contract) -> None:
    """What would end the process, or be no text, is an error here, of who calls."""
    if not new or start < 0 or start + len(new) > contract.context:
        raise ValueError(f"{len(new)} tokens from {start} on, in a context of {contract.context}")


def _module(manifest: StockManifest) -> Module:
    data = str(manifest.data) if manifest.data else None
    # Weights that XNNPACK has packed are not needed in the file any more: its pages may go.
    return Module(str(manifest.program.path), data, lock=False)
