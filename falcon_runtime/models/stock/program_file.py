"""What is in a program of ExecuTorch's (.pte): its methods, what they take and return, and what they need to run.

Source of the format: `program.fbs` and `scalar_type.fbs` in ExecuTorch's package, for the numbers of the fields; its
`exir/_serialize/_program.py` for the header in front.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from ...errors import ModelDamaged, UnsupportedProgram
from .flatbuffer import Buffer, Malformed, Table

MAGIC, FAMILY = b"ET12", b"ET"
"""What a program of this ExecuTorch has at byte 4, and those of all of them."""
TYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
    15: "bfloat16",
    27: "uint16",
}
"""The names of ScalarTypes."""
CACHE_WRITERS = ("llama::update_cache", "llama::update_cache_with_indices")
"""Operators that write keys or values [1, new, heads, head_dim] into a cache [1, tokens, heads, head_dim]."""


@dataclass(frozen=True)
class Tensor:
    type: str
    sizes: tuple[int, ...]
    """At most, where it is dynamic."""
    dynamic: bool

    def __str__(self) -> str:
        sizes = [*map(str, self.sizes[:6]), *(["…"] * (len(self.sizes) > 6))]
        return f"{self.type} [{', '.join(sizes)}]" + " at most" * self.dynamic


Value = Tensor | int | float | str | None
"""None: of a kind that does not matter here."""


@dataclass(frozen=True)
class Cache:
    """One that an operator of ExecuTorch's writes."""

    tokens: int
    """That it has room for."""
    anywhere: bool
    """Whether they are written to places that the program chooses, as in a ring."""


@dataclass(frozen=True)
class Method:
    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operators: tuple[str, ...]
    backends: tuple[str, ...]
    """That parts of it are delegated to."""
    arena_bytes: int
    """Of what is not constant: activations, and caches."""
    caches: tuple[Cache, ...]
    counts_positions: bool
    """Whether it keeps a list of positions from one call to the next, as caches do that are rings."""

    @property
    def constant(self) -> bool:
        return not self.inputs


@dataclass(frozen=True)
class ProgramFile:
    path: Path
    bytes: int
    changed_ns: int
    """When it was changed the last time."""
    methods: tuple[Method, ...]

    def method(self, name: str) -> Method | None:
        return next((method for method in self.methods if method.name == name), None)

    def constants(self, name: str) -> tuple[int, ...]:
        """The whole numbers that a constant method returns; none where there is no such method."""
        method = self.method(name)
        values = method.outputs if method and method.constant else ()
        return tuple(value for value in values if isinstance(value, int))


def read_program(path: Path) -> ProgramFile:
    """Errors: ModelDamaged; UnsupportedProgram where it is of another ExecuTorch, or none at all."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ModelDamaged(f"{path} cannot be read ({error.strerror}).") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelDamaged(f"{path} is not a regular file.")
        return _read(path, descriptor, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns))
    finally:
        os.close(descriptor)


@lru_cache(32)
def _known(path: Path, device: int, node: int, size: int, changed_ns: int) -> list[ProgramFile]:
    """What was read of this very file, empty at first."""
    return []


def _read(path: Path, descriptor: int, size: int, changed_ns: int) -> ProgramFile:
    status = os.fstat(descriptor)
    known = _known(path, status.st_dev, status.st_ino, size, changed_ns)
    if not known:
        buffer = Buffer(descriptor, size)
        _check_magic(path, buffer)
        try:
            root = Table.root(buffer)
            _check_whole(buffer, root)
            methods = tuple(_method(plan) for plan in root.tables(1))
        except Malformed as error:
            raise ModelDamaged(f"{path} {error}. Copy or export it again.") from error
        known.append(ProgramFile(path, size, changed_ns, methods))
    return known[0]


def _check_magic(path: Path, buffer: Buffer) -> None:
    found = buffer.read(4, 4) if buffer.size >= 8 else b""
    if found == MAGIC:
        return
    if found[:2] == FAMILY and found[2:].isdigit():
        raise UnsupportedProgram(
            f"{path} was made for another ExecuTorch: its format is {found.decode()}, and that of ExecuTorch "
            f"{version('executorch')}, which is installed here, is {MAGIC.decode()}. Export it again."
        )
    raise UnsupportedProgram(f"{path} is not an ExecuTorch program: it lacks the format's identifier. Export it again.")


def _check_whole(buffer: Buffer, root: Table) -> None:
    """Errors: Malformed where the file ends before its segments do."""
    header = buffer.read(8, 24) if buffer.size >= 32 else b""
    first = int.from_bytes(header[16:24], "little") if header[:4] == b"eh00" else 0
    ends = [first + segment.number(0, "Q") + segment.number(1, "Q") for segment in root.tables(4)]
    if (end := max(ends, default=0)) > buffer.size:
        raise Malformed(f"is truncated: it has {buffer.size:,} bytes, and should have {end:,} at least")


def _method(plan: Table) -> Method:
    values = list(plan.tables(2))

    def chosen(places: Sequence[int]) -> tuple[Value, ...]:
        return tuple(_value(values[place]) if 0 <= place < len(values) else None for place in places)

    operators = [(operator.text(0), operator.text(1)) for operator in plan.tables(6)]
    return Method(
        name=plan.text(0),
        inputs=chosen(plan.numbers(3, "i")),
        outputs=chosen(plan.numbers(4, "i")),
        operators=tuple(sorted({f"{name}.{overload}".removesuffix(".") for name, overload in operators})),
        backends=tuple(sorted({delegate.text(0) for delegate in plan.tables(7)})),
        arena_bytes=sum(plan.numbers(8, "q")),
        caches=tuple(_caches(plan, values, [name for name, _ in operators])),
        counts_positions=any(map(_is_list_of_positions, values)),
    )


def _value(value: Table) -> Value:
    content = value.table(1)
    if content is None:
        return None
    match value.number(0, "B"):
        case 2:
            return content.number(0, "q")
        case 3:
            return bool(content.number(0, "B"))
        case 4:
            return content.double(0)
        case 5:
            number = content.number(0, "b")
            return Tensor(TYPES.get(number, f"type {number}"), content.numbers(2, "i"), content.number(8, "b") != 0)
        case 6:
            return content.text(0)
    return None


def _caches(plan: Table, values: Sequence[Table], operators: Sequence[str]) -> list[Cache]:
    """Those that a kernel call of the plan writes."""
    writers = {i: name for i, name in enumerate(operators) if name in CACHE_WRITERS}
    if not writers:
        return []
    found = []
    for chain in plan.tables(5):
        for instruction in chain.tables(2):
            call = instruction.table(1) if instruction.number(0, "B") == 1 else None
            if call is None or (operator := call.number(0, "i")) not in writers:
                continue
            _, place, *_ = (*call.numbers(1, "i"), -1, -1)
            cache = _value(values[place]) if 0 <= place < len(values) else None
            if isinstance(cache, Tensor) and len(cache.sizes) > 1:
                found.append(Cache(cache.sizes[1], writers[operator] == CACHE_WRITERS[1]))
    return found


def _is_list_of_positions(value: Table) -> bool:
    """Whether it is int64 [more than 1], is kept from call to call, and begins as the file says."""
    content = value.table(1) if value.number(0, "B") == 5 else None
    if content is None or content.number(0, "b") != 4:
        return False
    sizes = content.numbers(2, "i")
    return len(sizes) == 1 and sizes[0] > 1 and content.number(5, "I") > 0 and content.table(6) is not None
