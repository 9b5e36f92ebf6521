"""Graph templates: traced graphs kept in files, so that a known architecture converts without any tracing.

A template is an xz-compressed file under `models/graphs/`: a line of JSON (what it is for and made by, every weight's
storage and shape, check sum) and the program's flatbuffer. One template serves every depth, every context and any
number of slots.
`python -m falcon_runtime graphs` makes those of the catalogue.
"""

import base64
import hashlib
import lzma
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program, _program_to_flatbuffer
from pydantic import BaseModel, ConfigDict, ValidationError

from ..architecture import MAX_TOKENS, Architecture
from ..errors import ConversionFailed
from ..recipes import Schemes
from .graph import MAX_ROWS, Graph, Stored, Weight
from .stack import shortened

FOLDER = Path(__file__).parents[2] / "models" / "graphs"
GRAPH_VERSION = 3
"""Raise it with every change to what tracing makes (llama.py, modules.py, operators.py, lower.py), and make the
templates anew."""


class Key(BaseModel):
    """What a graph depends on, but for the number of equal layers in a row, the context and the slots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    graph_version: int = GRAPH_VERSION
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    rms_norm_eps: float
    embedding: str
    head: str
    layers: tuple[str, ...]
    cache_bits: int
    max_tokens: int = MAX_TOKENS
    max_rows: int = MAX_ROWS

    @property
    def file_name(self) -> str:
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"llama-{self.hidden}x{self.intermediate}-v{self.vocabulary}-{digest[:8]}.xz"


class Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    executorch: str
    key: Key
    weights: dict[str, tuple[Stored, tuple[int, ...]]]
    constants: dict[int, str]
    named: dict[str, str]
    """What delegates look up: the name of a weight, or other bytes as `data:` and base64."""
    sha256: str
    """Of the program."""


def key_of_graph(architecture: Architecture, schemes: Schemes) -> Key:
    shape = {name: value for name, value in asdict(architecture).items() if name in Key.model_fields}
    return Key.model_validate(
        shape
        | {
            "embedding": str(schemes.embedding),
            "head": str(schemes.head),
            "layers": shortened([str(layer) for layer in schemes.layers]),
            "cache_bits": schemes.cache_bits,
        }
    )


def find(architecture: Architecture, schemes: Schemes, folder: Path = FOLDER) -> Graph | None:
    """The graph of a Llama of this shape and these schemes, its layers shortened, if there is a template of it.

    Errors: ConversionFailed where the template is damaged or another version of executorch has made it.
    """
    key = key_of_graph(architecture, schemes)
    path = folder / key.file_name
    return read(path, key) if path.is_file() else None


def is_usable(path: Path, key: Key) -> bool:
    """Whether there is a template at `path` that `read` takes."""
    try:
        return path.is_file() and bool(read(path, key))
    except ConversionFailed:
        return False


def read(path: Path, key: Key) -> Graph:
    """The graph in a template. Errors: ConversionFailed where it is damaged or another version of executorch's."""
    again = "Make it anew: python -m falcon_runtime graphs"
    try:
        first, program = lzma.decompress(path.read_bytes()).split(b"\n", 1)
        header = Header.model_validate_json(first)
    except (lzma.LZMAError, ValidationError, ValueError) as error:
        raise ConversionFailed(f"The graph template {path} is damaged. {again}") from error
    if header.executorch != version("executorch"):
        raise ConversionFailed(
            f"The graph template {path} was made by executorch {header.executorch}, and {version('executorch')} is "
            f"installed. Install the version of requirements.txt. {again}"
        )
    if header.key != key or hashlib.sha256(program).hexdigest() != header.sha256:
        raise ConversionFailed(f"The graph template {path} is damaged. {again}")
    return Graph(
        program=_flatbuffer_to_program(program),
        weights={name: Weight(stored, shape) for name, (stored, shape) in header.weights.items()},
        constants=header.constants,
        named={
            name: base64.b64decode(value[5:]) if value.startswith("data:") else value
            for name, value in header.named.items()
        },
        layers=list(key.layers),
    )


def write(graph: Graph, key: Key, folder: Path = FOLDER) -> Path:
    """Keeps `graph`, which has the layers `key.layers`, as a template."""
    assert graph.layers == list(key.layers)
    program = _program_to_flatbuffer(graph.program).data
    header = Header(
        executorch=version("executorch"),
        key=key,
        weights={name: (weight.stored, weight.shape) for name, weight in graph.weights.items()},
        constants=graph.constants,
        named={
            name: value if isinstance(value, str) else "data:" + base64.b64encode(value).decode()
            for name, value in graph.named.items()
        },
        sha256=hashlib.sha256(program).hexdigest(),
    )
    path = folder / key.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(header.model_dump_json().encode() + b"\n" + program, preset=9))
    return path
