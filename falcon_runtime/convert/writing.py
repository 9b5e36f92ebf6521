"""Writing a converted model as planned: program, tokenizer and manifest."""

from functools import partial
from importlib.metadata import version
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from ..errors import ConversionFailed
from ..models import tokenizer_files
from ..models.architecture import MAX_ROWS, MAX_TOKENS
from ..models.manifest import CONVERTER_VERSION, PROGRAM, Manifest
from ..models.recommended import recommended_sampling
from ..status import Report
from ..system.checksum import sha256_of
from .checkpoint import Checkpoint
from .graph import TABLES, Graph
from .opening import Opened
from .packed import packed_graph
from .plan import Plan
from .program_file import ProgramFile
from .progress import Progress
from .weights import stream


def write_model(plan: Plan, opened: Opened, folder: Path, name: str, report: Report) -> None:
    """Writes all of the model, called `name`, into the empty `folder`. Errors: DownloadFailed, ConversionFailed."""
    checkpoint, origin = opened.checkpoint, opened.origin
    tokenizer = write_tokenizer(checkpoint, folder)
    program, parts = _write_program(plan, checkpoint, folder / PROGRAM, report)
    Manifest(
        name=name,
        title=plan.title,
        shape=checkpoint.architecture,
        parameters=checkpoint.architecture.parameters,
        backend="xnnpack",
        recipe=plan.recipe,
        schemes=plan.schemes.names,
        context=plan.context,
        slots=plan.slots,
        cache_bits=plan.schemes.cache_bits,
        max_tokens=MAX_TOKENS,
        max_rows=MAX_ROWS,
        vocabulary=checkpoint.config.vocab_size,
        tokenizer_size=len(tokenizer),
        tokenizer_sha256=tokenizer_files.sha256(folder),
        bos_token=tokenizer.bos_token_id,
        end_tokens=tuple(checkpoint.end_tokens()),
        sampling=recommended_sampling(checkpoint.generation, plan.context),
        source=origin.name,
        source_sha256=origin.sha256(checkpoint.files),
        program_bytes=program.stat().st_size,
        program_sha256=sha256_of(program),
        parts=parts,
        converter=CONVERTER_VERSION,
        versions={package: version(package) for package in ("executorch", "torch", "transformers")},
    ).save(folder)


def write_tokenizer(checkpoint: Checkpoint, folder: Path) -> PreTrainedTokenizerFast:
    """Writes the tokenizer, and gives it as it is read from there. Errors: ConversionFailed where it is another
    model's."""
    checkpoint.save_tokenizer(folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    tokens = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))
    if tokens > checkpoint.config.vocab_size:
        raise ConversionFailed(
            f"The tokenizer has {tokens:,} tokens and the model knows {checkpoint.config.vocab_size:,}: they do not "
            "belong together."
        )
    return tokenizer


def _write_program(plan: Plan, checkpoint: Checkpoint, path: Path, report: Report) -> tuple[Path, dict[str, int]]:
    """Writes the program; gives its path, and the sizes of its parts as the manifest has them."""
    progress = Progress(plan.title, report)
    graph = _graph(plan, checkpoint, progress)
    layout = graph.layout()
    with ProgramFile(path, layout, graph.weights) as file:
        for name, table in zip(TABLES, checkpoint.config.rope_tables(plan.context), strict=True):
            file.write(name, 0, table)
        stream(checkpoint, plan.schemes, file.write, partial(progress.streaming, layout.size))
    return path, graph.parts(layout)


def _graph(plan: Plan, checkpoint: Checkpoint, progress: Progress) -> Graph:
    arguments = checkpoint.architecture, plan.schemes, plan.slots, plan.context
    if plan.schemes.packed:
        return packed_graph(*arguments)
    from .traced.lower import traced_graph  # Seconds of imports, which nothing else needs.

    with progress.tracing() as traced:
        return traced_graph(*arguments, traced)
