"""Which model a server answers with: the one that its owner names, or the Falcon that suits the machine."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import ConversionFailed, DownloadFailed
from ..system.machine import available_memory, memory_bandwidth
from .catalog import CATALOG, STARTER
from .drafts import AUTO, DraftWish, named_draft
from .library import Choice, choices, find_model
from .reading import read_model
from .sources import HubRepository

Offer = Literal["all", "converted", "none"]
"""Which models visitors may switch to: all of the catalogue, those that are converted, or none."""
READING_SPEED = 238 / 60 * 4 / 3
"""Tokens per second that are written as fast as people read, 5.3: 238 words of English a minute (Brysbaert, "How many
words do we read per minute?", Journal of Memory and Language 109, 2019), and about four tokens for three words."""
HUB_TIMEOUT_S = 10


@dataclass(frozen=True)
class Plan:
    """The models of a server from its start on."""

    first: str
    """The one that answers from the start: a name or a folder."""
    then: str | None = None
    """The one that is prepared meanwhile and then takes over, which has to come from the hub."""
    recommended: Choice | None = None
    """The largest Falcon that answers at reading speed on this machine. None where none does, or offline."""


def plan(model: str | None, models_dir: Path, on_space: bool, offline: bool, draft: str = AUTO) -> Plan:
    """What the server of an owner does who asks for `model`, or for none; `offline`, nothing may come from the hub. A
    model that is named as `draft` has its memory beside all that answer.

    Only on a Space are gigabytes downloaded unasked. Errors: UnknownModel; ModelDamaged; ConversionFailed where there
    is no place to convert into; DownloadFailed for a model that has to come from the hub, if offline; DraftUnusable.
    """
    drafting = named_draft(draft, models_dir)
    if drafting and model:
        DraftWish(draft, find_model(model, models_dir), models_dir).find()
    suited = suitable(models_dir, drafting.manifest.draft_bytes if drafting else 0)
    recommended = suited[-1] if suited and not offline else None
    converted = [choice.name for choice in suited if choice.converted]
    if model or not on_space:
        first, then = _asked(model or STARTER.name, models_dir, offline)
    elif converted:
        # The next measurement may find another size: what is converted already is not given up for it.
        first, then = converted[-1], None
    else:
        first, then = STARTER.name, recommended.name if recommended else None
    if then or find_model(first, models_dir).needs_provisioning:
        _check_writable(models_dir)
    return Plan(first, then, recommended)


def suitable(models_dir: Path, draft_bytes: int = 0) -> list[Choice]:
    """The Falcons that this machine has memory and disk for, beside the starter model and a draft model of
    `draft_bytes`, and that write at least at `READING_SPEED`; the largest last.

    A token takes as long as the program takes to be read from memory: measured on programs of a gigabyte and more.
    """
    memory, disk = available_memory() - STARTER.memory_bytes - draft_bytes, _free_disk(models_dir)
    fitting = [
        choice
        for choice in choices(models_dir)
        if choice.name in CATALOG and choice.name != STARTER.name
        if choice.memory_bytes <= memory
        if choice.converted or choice.download_bytes + choice.program_bytes <= disk
    ]
    if not fitting:
        return []
    bandwidth = memory_bandwidth()
    quick = [choice for choice in fitting if bandwidth / choice.program_bytes >= READING_SPEED]
    return sorted(quick, key=lambda choice: choice.program_bytes)


def hub_problem(name: str) -> str | None:
    """Why the catalogue model `name` cannot be downloaded from the hub, as it seems; None where it can."""
    from huggingface_hub import HfApi  # Only here: its import takes a second.

    source = CATALOG[name.partition(":")[0]].source
    assert isinstance(source, HubRepository)
    try:
        HfApi().model_info(source.repository, revision=source.revision, timeout=HUB_TIMEOUT_S)
    except Exception as error:  # The hub's client raises its own kinds, its HTTP library's and the system's.
        return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
    return None


def _asked(model: str, models_dir: Path, offline: bool) -> tuple[str, str | None]:
    """`first` and `then` for a model that is asked for. Errors: as `plan`."""
    found = find_model(model, models_dir)
    if not found.needs_provisioning:
        read_model(found.folder)
    elif found.entry and isinstance(found.entry.source, HubRepository):
        if offline:
            raise DownloadFailed(
                f"{found.title} is not converted yet, and nothing is downloaded from the model hub while offline. "
                "Start without --offline, FALCON_OFFLINE or HF_HUB_OFFLINE, or choose another --model."
            )
        return STARTER.name, found.name
    return model, None


def _check_writable(models_dir: Path) -> None:
    """Errors: ConversionFailed."""
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        writable = os.access(models_dir, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise ConversionFailed(
            f"Nothing can be written into the models folder {models_dir}. Choose another one with FALCON_MODELS_DIR."
        )


def _free_disk(folder: Path) -> int:
    """Bytes that can be written below `folder`, which need not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free
