"""The whole way of a checkpoint: download, weights, lowering, manifest, and all of it into place at once."""

import os
import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from filelock import FileLock

from ..catalog import CATALOG, CatalogEntry, HubRepository, hub_repository
from ..errors import ConversionFailed
from ..machine import machine_memory
from ..manifest import CONVERTER_VERSION, PROGRAM, Manifest, RecipeName, is_converted
from ..recipes import schemes_of
from .download import Announce, Report, Source, open_source

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

MIN_CONTEXT = 16
DEFAULT_CONTEXT = 2048
"""For checkpoints that the catalogue does not know, where they have as much: the KV cache is memory."""


def convert(
    source: str,
    models_dir: Path,
    recipe: RecipeName | None = None,
    slots: int | None = None,
    context: int | None = None,
    output: Path | None = None,
    report: Report = lambda status: None,
    announce: Announce = lambda text: None,
    delete_shards: bool = False,
) -> Path:
    """Converts `source` (catalogue name, `.gguf` file, Hugging Face folder, or what `hub_repository` reads) into
    `output`, and returns that folder.

    None stands for the catalogue's recipe and context (else `_fitting_recipe` and at most 2,048 tokens), for as many
    slots as `Architecture.fitting_slots` finds for this machine, and for the source's name below `models_dir`.
    `announce` gets a few lines for a person before a download from the hub begins; with `delete_shards` its files of
    weights go as they are read. The folder appears when it is whole, and not before; one that is there stays until
    then. Errors: DownloadFailed, ConversionFailed.
    """
    entry = CATALOG.get(source)
    if recipe is not None and recipe not in get_args(RecipeName):
        raise ConversionFailed(f"There is no recipe {recipe!r}; there are {', '.join(get_args(RecipeName))}.")
    recipe = recipe or (entry.recipe if entry else None)
    origin: Source = Path(source)
    if entry:
        origin = entry.source
    elif not Path(source).exists():
        origin = hub_repository(source) or origin
    if output is None:
        stem = origin.name if isinstance(origin, HubRepository) else Path(source).resolve().stem
        name = entry.name if entry else stem.lower()
        output = models_dir / (name if not entry or recipe == entry.recipe else f"{name}-{recipe}")
    if output.exists() and not is_converted(output) and any(output.iterdir() if output.is_dir() else [output]):
        raise ConversionFailed(f"{output} exists and is no converted model. Choose another --output, or remove it.")
    known = is_converted(output)
    unfinished, earlier = (output.parent / f".{output.name}.{state}" for state in ("partial", "earlier"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(output.parent / f".{output.name}.lock"):
            if is_converted(output) and not known:
                return output  # Another process was converting it, and has.
            shutil.rmtree(unfinished, ignore_errors=True)  # What a killed conversion has left.
            unfinished.mkdir()
            try:
                _build(origin, unfinished, output.name, entry, recipe, slots, context, report, announce, delete_shards)
                if known:
                    os.replace(output, earlier)
                os.replace(unfinished, output)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.rmtree(earlier, ignore_errors=True)
    except OSError as error:
        raise ConversionFailed(
            f"{output} could not be written ({error}). Make room, or choose another --output."
        ) from error
    return output


def _build(
    origin: Source,
    folder: Path,
    name: str,
    entry: CatalogEntry | None,
    recipe: RecipeName | None,
    slots: int | None,
    context: int | None,
    report: Report,
    announce: Announce,
    delete_shards: bool,
) -> None:
    """Writes a whole converted model into the empty `folder`."""
    title = entry.title if entry else name
    checkpoint = open_source(origin, title, folder.parent / ".downloads", report, announce, delete_shards)
    # Seconds of imports, which nothing but a conversion needs.
    from transformers import AutoTokenizer

    from . import templates
    from .graph import MAX_ROWS, MAX_TOKENS, TABLES
    from .needs import needs_of
    from .program_file import ProgramFile, sha256_of
    from .progress import Progress
    from .stack import stacked
    from .weights import stream

    config = checkpoint.config
    trained = config.max_position_embeddings
    if context is None:
        context = min(trained, entry.context if entry else DEFAULT_CONTEXT)
    if not MIN_CONTEXT <= context <= trained:
        raise ConversionFailed(
            f"The model can have {MIN_CONTEXT} to {trained:,} tokens of context; {context:,} cannot be had."
        )
    if slots is not None and not 1 <= slots <= MAX_ROWS:
        raise ConversionFailed(f"Slots may be 1 to {MAX_ROWS}, not {slots}.")

    recipe = recipe or _fitting_recipe(checkpoint)
    schemes = schemes_of(recipe, checkpoint.architecture, checkpoint.has_offsets)
    if slots is None:
        shape = checkpoint.architecture
        slots = shape.fitting_slots(schemes.bytes(shape), context, machine_memory(), schemes.cache_bits)
    needs = needs_of(checkpoint, schemes, context, slots)
    if needs.download:
        announce(needs.describe(title, checkpoint.source, entry.terms if entry else checkpoint.licence))
    needs.check_room(folder)

    checkpoint.save_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) > config.vocab_size:
        raise ConversionFailed(
            f"The tokenizer has {len(tokenizer):,} tokens and the model knows {config.vocab_size:,}: they "
            "do not belong together."
        )

    progress = Progress(title, report)
    graph = templates.find(checkpoint.architecture, schemes)
    if graph is None:
        from .lower import trace

        with progress.tracing() as traced:
            graph = trace(checkpoint.architecture, schemes, traced)
    graph = stacked(graph, [str(layer) for layer in schemes.layers]).with_caches(slots, context)
    shared = {"head.weight": "embed.weight"} if schemes.shared else {}
    layout = graph.layout(shared)
    with ProgramFile(folder / PROGRAM, layout, graph.weights) as file:
        for name, table in zip(TABLES, checkpoint.rope_tables(context), strict=True):
            file.write(name, 0, table)
        stream(checkpoint, schemes, file.write, partial(progress.streaming, layout.size))

    Manifest(
        name=name,
        title=title,
        shape=checkpoint.architecture,
        parameters=checkpoint.architecture.parameters,
        backend="xnnpack",
        recipe=recipe,
        schemes=schemes.names,
        context=context,
        slots=slots,
        cache_bits=schemes.cache_bits,
        max_tokens=MAX_TOKENS,
        max_rows=MAX_ROWS,
        vocabulary=config.vocab_size,
        tokenizer_size=len(tokenizer),
        bos_token=tokenizer.bos_token_id,
        end_tokens=tuple(checkpoint.end_tokens()),
        source=checkpoint.source,
        source_sha256=checkpoint.sha256(),
        program_bytes=layout.size,
        program_sha256=sha256_of(folder / PROGRAM),
        parts=graph.parts(layout, shared),
        converter=CONVERTER_VERSION,
        versions={package: version(package) for package in ("executorch", "torch", "transformers")},
    ).save(folder)


def _fitting_recipe(checkpoint: "Checkpoint") -> RecipeName:
    """int4 for what is in 4 bits already, or is so large that its speed is that of memory; else int8."""
    return "int4" if checkpoint.in_4_bits or checkpoint.architecture.large else "int8"
