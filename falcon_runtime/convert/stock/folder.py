"""Writing a stock folder as planned: the program, the tokenizer that a phone reads, and what people need to know."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...errors import ConversionFailed
from ...models.exported import Exported
from ...models.manifest import PROGRAM, Target
from ...models.recommended import recommended_sampling
from ...status import Report, Status
from ...system.checksum import sha256_of
from ..checkpoint import Checkpoint
from ..needs import in_words
from ..opening import Opened
from ..plan import Plan
from ..writing import write_tokenizer
from .check import check_program, check_tokenizer
from .constants import constant_methods
from .files import GENERATION, README, SENTENCEPIECE, phones_tokenizer, write_generation_config
from .program import tried_layers, write_excerpt, write_stock_program
from .readme import readme


def write_model(plan: Plan, opened: Opened, folder: Path, name: str, report: Report) -> None:
    """Writes all of the model, called `name`, into the empty `folder`, and tries it. Errors: DownloadFailed,
    ConversionFailed."""
    checkpoint, origin = opened.checkpoint, opened.origin
    bos, ends = write_tokenizer(checkpoint, folder).bos_token_id, tuple(checkpoint.end_tokens())
    _settle_tokenizer(checkpoint, folder, plan.title)  # Before what takes long.
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
        catalogued=plan.catalogued,
        source=origin.name,
        source_sha256=source_sha256 or origin.sha256(checkpoint.files),
        program_bytes=program.stat().st_size,
        program_sha256=sha256_of(program),
        versions={package: version(package) for package in ("executorch", "torch", "transformers")},
    )
    what = (
        f"{facts.parameters / 1e9:.2f} billion parameters in the recipe {plan.recipe}, {in_words(facts.program_bytes)}."
    )
    (folder / README).write_text(readme(plan, what, origin.name, phones_tokenizer(folder)))
    if plan.target != "qnn":  # Simulating an NPU takes minutes for each token.
        report(Status("converting", f"Trying {plan.title} in ExecuTorch's own runner"))
        with _tried(plan, checkpoint, constants, folder) as tried:
            check_program(tried, plan.title)
    facts.save(folder)


def _settle_tokenizer(checkpoint: Checkpoint, folder: Path, title: str) -> None:
    """Sees to it that phones can read the tokenizer in `folder`: as it is, or else as the SentencePiece model that the
    checkpoint has. Errors: ConversionFailed where they read neither as it is meant."""
    try:
        check_tokenizer(folder, title)
    except ConversionFailed:
        if not checkpoint.sentencepiece:
            raise
        shutil.copyfile(checkpoint.sentencepiece, folder / SENTENCEPIECE)
        check_tokenizer(folder, title)


def _writer(target: Target, identity: str) -> Callable[[Plan, Checkpoint, Path, dict[str, Any], Report], None]:
    """What writes the program; each imports compilers of its own, which take seconds."""
    if target == "openvino":
        from .openvino import write_program

        return write_program
    if target == "qnn":
        from ..qnn.program import write_program

        return write_program
    return partial(write_stock_program, identity)


@contextmanager
def _tried(plan: Plan, checkpoint: Checkpoint, constants: dict[str, Any], folder: Path) -> Iterator[Path]:
    """A folder to be tried in place of `folder`: that itself, or one with an excerpt of its program."""
    if plan.target != "stock" or (layers := tried_layers(checkpoint.architecture, plan.schemes)) is None:
        yield folder
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name in (phones_tokenizer(folder), GENERATION):
            (Path(temporary) / name).symlink_to(folder / name)
        write_excerpt(plan, checkpoint.architecture, constants, layers, folder / PROGRAM, Path(temporary) / PROGRAM)
        yield Path(temporary)
