"""Writing a stock folder as planned: the program, the tokenizer that a phone reads, and what people need to know."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...models.exported import Exported
from ...models.manifest import PROGRAM, Target
from ...models.recommended import recommended_sampling
from ...status import Report, Status
from ...system.checksum import sha256_of
from ..checkpoint import Checkpoint
from ..graph import TABLES
from ..needs import in_words
from ..opening import Opened
from ..plan import Plan
from ..program_file import ProgramFile
from ..progress import Progress
from ..traced.storage import as_stored
from ..weights import stream
from ..writing import write_tokenizer
from .check import check_program, check_tokenizer
from .constants import constant_methods
from .files import README, write_generation_config
from .graph import stock_graph
from .quantize import stock_parts
from .readme import readme


def write_model(plan: Plan, opened: Opened, folder: Path, name: str, report: Report) -> None:
    """Writes all of the model, called `name`, into the empty `folder`, and tries it. Errors: DownloadFailed,
    ConversionFailed."""
    checkpoint, origin = opened.checkpoint, opened.origin
    bos, ends = write_tokenizer(checkpoint, folder).bos_token_id, tuple(checkpoint.end_tokens())
    check_tokenizer(folder, plan.title)  # Before what takes long.
    write_generation_config(folder, bos, ends, recommended_sampling(checkpoint.generation, plan.context))
    program = folder / PROGRAM
    constants = constant_methods(checkpoint.architecture, plan.context, bos, ends)
    source_sha256 = origin.sha256_already(checkpoint.files)
    identity = f"{source_sha256 or origin.name} {plan.recipe}"  # What comes from the hub has its commit in its name.
    _writer(plan.target, identity)(plan, checkpoint, program, constants, report)
    facts = Exported(
        name=name,
        title=plan.title,
        target=plan.target,
        recipe=plan.recipe,
        parameters=checkpoint.architecture.parameters,
        context=plan.context,
        licence=plan.licence,
        source=origin.name,
        source_sha256=source_sha256 or origin.sha256(checkpoint.files),
        program_bytes=program.stat().st_size,
        program_sha256=sha256_of(program),
        versions={package: version(package) for package in ("executorch", "torch", "transformers")},
    )
    what = (
        f"{facts.parameters / 1e9:.2f} billion parameters in the recipe {plan.recipe}, {in_words(facts.program_bytes)}."
    )
    (folder / README).write_text(readme(plan, what, origin.name))
    if plan.target != "qnn":  # Simulating an NPU takes minutes for each token.
        report(Status("converting", f"Trying {plan.title} in ExecuTorch's own runner"))
        check_program(folder, plan.title)
    facts.save(folder)


def _writer(target: Target, identity: str) -> Callable[[Plan, Checkpoint, Path, dict[str, Any], Report], None]:
    """What writes the program; each imports compilers of its own, which take seconds."""
    if target == "openvino":
        from .openvino import write_program

        return write_program
    if target == "qnn":
        from ..qnn.program import write_program

        return write_program
    return partial(_write_program, identity)


def _write_program(
    identity: str, plan: Plan, checkpoint: Checkpoint, path: Path, constants: dict[str, Any], report: Report
) -> None:
    graph = stock_graph(checkpoint.architecture, plan.schemes, plan.context, constants, identity)
    progress, layout = Progress(plan.title, report), graph.layout()
    with ProgramFile(path, layout, graph.weights) as file:
        for name, table in zip(TABLES, checkpoint.rope_tables(plan.context), strict=True):
            file.write(name, 0, table)
        stream(
            checkpoint,
            plan.schemes,
            lambda name, first, numbers: file.write(name, first, as_stored(numbers, graph.weights[name].stored)),
            partial(progress.streaming, layout.size),
            stock_parts,
        )
