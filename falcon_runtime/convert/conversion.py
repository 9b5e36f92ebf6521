"""The whole way of a checkpoint: download, weights, lowering, manifest, and all of it into place at once."""

import os
import shutil
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from filelock import FileLock

from ..architecture import MAX_ROWS, MAX_TOKENS
from ..catalog import CATALOG, CatalogEntry
from ..errors import ConversionFailed
from ..machine import machine_memory
from ..manifest import CONVERTER_VERSION, MANIFEST, PROGRAM, Manifest, RecipeName, is_converted, is_outdated
from ..recipes import Schemes, schemes_of
from ..sources import HubRepository, Source, Wheel, name_of, parse_source
from .download import Announce, Report, open_source

if TYPE_CHECKING:
    from .checkpoint import Checkpoint

MIN_CONTEXT = 16
DEFAULT_CONTEXT = 2048
"""For checkpoints that the catalogue does not know, where they have as much: the KV cache is memory."""


@dataclass(frozen=True)
class _Order:
    """What is to be converted, and how. None stands for what `convert` says."""

    origin: Source
    title: str
    entry: CatalogEntry | None
    recipe: RecipeName | None
    slots: int | None
    context: int | None
    report: Report
    announce: Announce
    delete_shards: bool


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
    """Converts `source` (a catalogue name, alone or with a recipe, or what `parse_source` reads) into `output`, and
    returns that folder.

    None stands for the catalogue's recipe and context (else `_fitting_recipe` and at most 2,048 tokens), for as many
    slots as `Architecture.fitting_slots` finds for this machine, and for the source's name below `models_dir`.
    `announce` gets a few lines for a person before a download from the hub begins; with `delete_shards` its files of
    weights go as they are read. The folder appears when it is whole, and not before; one that is there stays until
    then, and is replaced only if it is a model of the same source. Errors: DownloadFailed, ConversionFailed.
    """
    origin, name, entry, recipe = _located(source, recipe)
    title = entry.title if entry else output.name if output else name
    order = _Order(origin, title, entry, recipe, slots, context, report, announce, delete_shards)
    output = output or models_dir / name.lower()
    if output.exists() and not is_converted(output) and any(output.iterdir() if output.is_dir() else [output]):
        raise ConversionFailed(f"{output} exists and is no converted model. Choose another --output, or remove it.")
    known = is_converted(output)
    unfinished, earlier = (output.parent / f".{output.name}.{state}" for state in ("partial", "earlier"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(output.parent / f".{output.name}.lock"):
            _check_same_source(origin, output)
            if is_converted(output) and not known:
                return output  # Another process was converting it, and has.
            shutil.rmtree(unfinished, ignore_errors=True)  # What a killed conversion has left.
            unfinished.mkdir()
            try:
                _build(order, unfinished, output.name)
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


def _located(source: str, recipe: RecipeName | None) -> tuple[Source, str, CatalogEntry | None, RecipeName | None]:
    """Where the checkpoint is, what the model is called, what the catalogue knows of it, and the recipe."""
    name, _, suffix = source.strip().partition(":")
    entry = CATALOG.get(name) or (None if os.path.exists(source) else CATALOG.get(name.lower()))
    asked = [choice for choice in (suffix if entry else None, recipe) if choice]
    for choice in asked:
        if choice not in get_args(RecipeName):
            raise ConversionFailed(f"There is no recipe {choice!r}; there are {', '.join(get_args(RecipeName))}.")
    if entry is None:
        origin = parse_source(source)
        return origin, name_of(origin), None, recipe
    if len(set(asked)) > 1:
        raise ConversionFailed(f"{source} and --recipe {recipe} ask for two recipes: leave one of them out.")
    chosen = cast(RecipeName, asked[0]) if asked else entry.recipe
    return entry.source, entry.name if chosen == entry.recipe else f"{entry.name}-{chosen}", entry, chosen


def _check_same_source(origin: Source, output: Path) -> None:
    """Raises ConversionFailed if `output` holds a model of this version that is of another source than `origin`."""
    if not is_converted(output) or is_outdated(output):
        return
    try:
        there = Manifest.model_validate_json((output / MANIFEST).read_text()).source
    except (OSError, ValueError):
        return  # It is damaged, and its errors say to convert it again.
    if isinstance(origin, HubRepository):  # Of any commit.
        same = there.startswith((f"{origin.repository}@", f"{origin.repository}/"))
    else:
        same = there == _local_source(origin)
    if not same:
        raise ConversionFailed(
            f"{output} holds a model that was converted from {there}. Choose another folder with --output, or remove "
            "that one."
        )


def _local_source(origin: Wheel | Path) -> str:
    """What the manifest calls it: two folders may bear one name."""
    return Path(origin.member).name if isinstance(origin, Wheel) else os.path.abspath(origin)


def _build(order: _Order, folder: Path, name: str) -> None:
    """Writes a whole converted model, called `name`, into the empty `folder`."""
    downloads = folder.parent / ".downloads"
    checkpoint = open_source(order.origin, order.title, downloads, order.report, order.announce, order.delete_shards)
    # Seconds of imports, which nothing but a conversion needs.
    from transformers import AutoTokenizer

    from .needs import needs_of
    from .program_file import sha256_of
    from .recommended import recommended_sampling

    recipe = order.recipe or _fitting_recipe(checkpoint)
    schemes = schemes_of(recipe, checkpoint.architecture, checkpoint.has_offsets)
    context, slots = _context(order, checkpoint), _slots(order, checkpoint, schemes)
    needs = needs_of(checkpoint, schemes, context, slots)
    if needs.download:
        licence = order.entry.terms if order.entry else checkpoint.licence
        order.announce(needs.describe(order.title, checkpoint.source, licence))
    needs.check_room(folder)

    checkpoint.save_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if len(tokenizer) > checkpoint.config.vocab_size:
        raise ConversionFailed(
            f"The tokenizer has {len(tokenizer):,} tokens and the model knows {checkpoint.config.vocab_size:,}: they "
            "do not belong together."
        )
    size, parts = _write_program(order, checkpoint, schemes, context, slots, folder / PROGRAM)
    Manifest(
        name=name,
        title=order.title,
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
        vocabulary=checkpoint.config.vocab_size,
        tokenizer_size=len(tokenizer),
        bos_token=tokenizer.bos_token_id,
        end_tokens=tuple(checkpoint.end_tokens()),
        sampling=recommended_sampling(checkpoint.generation, context),
        source=checkpoint.source if isinstance(order.origin, HubRepository) else _local_source(order.origin),
        source_sha256=checkpoint.sha256(),
        program_bytes=size,
        program_sha256=sha256_of(folder / PROGRAM),
        parts=parts,
        converter=CONVERTER_VERSION,
        versions={package: version(package) for package in ("executorch", "torch", "transformers")},
    ).save(folder)


def _context(order: _Order, checkpoint: "Checkpoint") -> int:
    longest = checkpoint.max_context
    if order.context is None:
        return min(longest, order.entry.context if order.entry else DEFAULT_CONTEXT)
    if not MIN_CONTEXT <= order.context <= longest:
        raise ConversionFailed(
            f"The model can have {MIN_CONTEXT} to {longest:,} tokens of context, not {order.context:,}."
        )
    return order.context


def _slots(order: _Order, checkpoint: "Checkpoint", schemes: Schemes) -> int:
    if order.slots is None:
        shape, context = checkpoint.architecture, _context(order, checkpoint)
        return shape.fitting_slots(schemes.bytes(shape), context, machine_memory(), schemes.cache_bits)
    if not 1 <= order.slots <= MAX_ROWS:
        raise ConversionFailed(f"Slots may be 1 to {MAX_ROWS}, not {order.slots}.")
    return order.slots


def _write_program(
    order: _Order, checkpoint: "Checkpoint", schemes: Schemes, context: int, slots: int, path: Path
) -> tuple[int, dict[str, int]]:
    """Writes the program and returns its size, and its parts as the manifest has them."""
    from .graph import TABLES
    from .program_file import ProgramFile
    from .progress import Progress
    from .weights import stream

    progress = Progress(order.title, order.report)
    if schemes.packed:
        from .packed import packed_graph

        graph = packed_graph(checkpoint.architecture, schemes, slots, context)
    else:
        from .traced.lower import traced_graph

        with progress.tracing() as traced:
            graph = traced_graph(checkpoint.architecture, schemes, slots, context, traced)
    layout = graph.layout()
    with ProgramFile(path, layout, graph.weights) as file:
        for name, table in zip(TABLES, checkpoint.rope_tables(context), strict=True):
            file.write(name, 0, table)
        stream(checkpoint, schemes, file.write, partial(progress.streaming, layout.size))
    return layout.size, graph.parts(layout)


def _fitting_recipe(checkpoint: "Checkpoint") -> RecipeName:
    """int4 for what is in 4 bits already, or is so large that its speed is that of memory; else int8."""
    return "int4" if checkpoint.in_4_bits or checkpoint.architecture.large else "int8"
