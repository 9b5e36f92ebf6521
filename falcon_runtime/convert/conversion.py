"""The whole way of a checkpoint: a request, an open checkpoint, a plan, a written model, and that into its place."""

from pathlib import Path

from ..errors import ConversionFailed
from ..models.manifest import PROGRAM, CacheBits, RecipeName, Target, is_converted, parse_manifest
from ..status import Report
from ..system.checksum import remember
from ..system.replacement import lock_of, replacement
from .opening import Announce, open_source
from .prerequisites import checked_chip
from .request import Request, check_output, check_same_source, is_model, read_request


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
    cache: CacheBits | None = None,
    target: Target = "server",
    chip: str | None = None,
) -> Path:
    """Converts `source`, which `read_request` reads, for `target` into `output`, and returns that folder. `chip` is the
    one for whose NPU it is, where that is Qualcomm's.

    None stands for what `make_plan` finds best, and for the source's name below `models_dir`. `announce` gets a few
    lines for a person before a download from the hub begins; with `delete_shards` its files of weights go as they are
    read. The folder appears when it is whole, and not before; one that is there stays until then, and is replaced only
    if it is a model of the same source. Errors: DownloadFailed, ConversionFailed, BackendUnavailable.
    """
    chip = checked_chip(target, chip)
    request = read_request(source, models_dir, recipe, slots, context, output, cache, target, chip)
    output = request.output
    check_output(output)
    known = is_model(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with lock_of(output):
            check_same_source(request.source, output)
            if is_model(output) and not known:
                return output  # Another process was converting it, and has.
            with replacement(output) as folder:
                _build(request, folder, report, announce, delete_shards)
            if is_converted(output):
                remember(output / PROGRAM, parse_manifest(output).program_sha256)  # It was read for that just now.
    except OSError as error:
        raise ConversionFailed(
            f"{output} could not be written ({error}). Make room, or choose another --output."
        ) from error
    return output


def _build(request: Request, folder: Path, report: Report, announce: Announce, delete_shards: bool) -> None:
    """Makes the model in the empty `folder`."""
    downloads = folder.parent / ".downloads"
    opened = open_source(request.source, request.title, downloads, report, announce, delete_shards)
    # Seconds of imports, which what comes before should not wait for.
    from .plan import make_plan

    plan = make_plan(request, opened)
    if plan.target == "server":
        from .writing import write_model
    else:
        from .stock.folder import write_model
    plan.needs.announce(plan.title, opened.origin.name, plan.licence, announce)
    plan.needs.check_room(folder)
    write_model(plan, opened, folder, request.output.name, report)
