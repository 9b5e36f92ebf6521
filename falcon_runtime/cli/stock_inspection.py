"""What somebody else's program is, and whether it can run here; nothing of it is run to tell."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.stock_program import missing
from ..errors import FalconError
from ..models.stock.contract import contract_of
from ..models.stock.manifest import StockManifest, find_program, read_stock
from ..models.stock.program_file import Method, ProgramFile, read_program
from ..text.encoder import Encoder
from ..text.tokenizer import load_tokenizer

INDENT = f"\n{'':15}"


@dataclass(frozen=True)
class StockInspection:
    program: ProgramFile
    manifest: StockManifest | None
    """None where it is none that can run."""
    end_tokens: tuple[int, ...]
    chat_template: bool
    problems: list[str]
    """Why it cannot run; empty if it can."""

    def __str__(self) -> str:
        called = [method for method in self.program.methods if not method.constant]
        lines = {
            "program": f"{self.program.path.name}, {self.program.bytes / 1e6:,.1f} MB",
            "methods": INDENT.join(map(_signature, called)) or "none that takes anything",
            "operators": ", ".join(sorted({name for method in called for name in method.operators})) or "none",
            "backends": ", ".join(sorted({name for method in called for name in method.backends})) or "none",
            "constants": ", ".join(f"{name} {value}" for name, value in self._constants().items()) or "none",
            **(self._running(self.manifest) if self.manifest else {}),
            "state": "can run" if not self.problems else INDENT.join(["cannot run:", *self.problems]),
        }
        return "\n".join([self.program.path.parent.name, *(f"  {name:13}{text}" for name, text in lines.items())])

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        m = self.manifest
        return {
            "program": str(self.program.path),
            "program_bytes": self.program.bytes,
            "methods": [dataclasses.asdict(method) for method in self.program.methods if not method.constant],
            "constants": self._constants(),
            "contract": dataclasses.asdict(m.contract) if m else None,
            "slots": m.slots if m else None,
            "memory_bytes": m.memory_bytes if m else None,
            "end_tokens": self.end_tokens,
            "chat_template": self.chat_template,
            "problems": self.problems,
        }

    def _constants(self) -> dict[str, Any]:
        constant = {method.name: method.outputs for method in self.program.methods if method.constant}
        return {name: values[0] if len(values) == 1 else list(values) for name, values in constant.items()}

    def _running(self, m: StockManifest) -> dict[str, str]:
        return {
            "weights": f"{m.data.name}, {m.data_bytes / 1e6:,.1f} MB" if m.data else "in the program",
            "runs": m.contract.kind,
            "context": f"{m.context:,} tokens in each of {m.slots} slot{'s' * (m.slots > 1)}, {m.vocabulary:,} tokens "
            "in the vocabulary",
            "ends with": ", ".join(map(str, self.end_tokens)) or "nothing that is known: answers go on to their limit",
            "memory": f"about {m.memory_bytes / 1e9:,.1f} GB to run",
            "chat": "in its own template"
            if self.chat_template
            else "no chat template: it continues text; --chat-template names one",
        }


def inspect_stock(folder: Path) -> StockInspection:
    """Errors: those of `read_program`, and UnsupportedProgram where it is not clear which one it is."""
    program = read_program(find_program(folder))
    manifest, ends, template, problems = None, tuple[int, ...](), False, list[str]()
    try:
        contract_of(program)
        manifest = read_stock(folder)
    except FalconError as error:
        problems.append(str(error))
    for method in program.methods:
        if problem := missing(method):
            problems.append(f"The method {method.name} {problem}.")
    if manifest:
        try:
            ends = manifest.end_tokens
            template = bool(Encoder(load_tokenizer(folder, manifest)).chat_template)
        except FalconError as error:
            problems.append(str(error))
    return StockInspection(program, manifest, ends, template, problems)


def _signature(method: Method) -> str:
    inputs, outputs = (", ".join(map(str, values)) for values in (method.inputs, method.outputs))
    return f"{method.name}({inputs}) -> {outputs}"
