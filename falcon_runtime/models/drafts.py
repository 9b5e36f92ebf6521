"""Which model drafts for which: a smaller one with the same tokens, whose drafts the other verifies."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from ..errors import DraftUnusable
from ..system.files import Unreadable
from ..system.machine import available_memory
from . import tokenizer_files
from .library import Model, find_model
from .manifest import Manifest, check_program, read_manifest
from .reading import AnyManifest, is_foreign

AUTO, NONE = "auto", "none"
"""Instead of a name: the draft model that the catalogue has for a model, if it is converted and fits beside it; and
none."""


@dataclass(frozen=True)
class DraftSource:
    """A converted model that is to draft."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class DraftWish:
    """What should draft for `model`: AUTO, NONE, or a model as `find_model` takes it."""

    name: str
    model: Model
    models_dir: Path
    required: bool = True
    """Whether one that is named has to draft; else `model` answers without it where it cannot."""

    @property
    def binding(self) -> bool:
        """Whether `model` must not be loaded without the draft model."""
        return self.required and self.name not in (AUTO, NONE)

    def find(self) -> DraftSource | None:
        """The draft model as it is now; None where none is asked for, or the catalogue has none that is converted.

        Errors: UnknownModel; ModelDamaged; DraftUnusable where it is not converted, cannot draft for `model`, or, if
        it need not be, does not fit in memory beside `model`.
        """
        draft = self._automatic() if self.name == AUTO else named_draft(self.name, self.models_dir)
        manifest = self.model.manifest()
        if draft and manifest:
            check_drafts_for(draft, self.model.folder, manifest)
            if not self.binding:
                _check_memory(draft.manifest, manifest)
        return draft

    def _automatic(self) -> DraftSource | None:
        name = self.model.entry.draft if self.model.entry else None
        if name is None or find_model(name, self.models_dir).needs_provisioning:
            return None  # Nothing is downloaded unasked.
        return named_draft(name, self.models_dir)


def default_draft() -> str:
    """FALCON_DRAFT, else AUTO."""
    return os.environ.get("FALCON_DRAFT") or AUTO


def named_draft(name: str, models_dir: Path) -> DraftSource | None:
    """The draft model of that name, its program being what was converted; None for AUTO and NONE. Errors: UnknownModel,
    ModelDamaged, DraftUnusable."""
    if name in (AUTO, NONE):
        return None
    model = find_model(name, models_dir)
    if model.needs_provisioning:
        raise DraftUnusable(
            f"The draft model {model.title} is not converted yet. Convert it first: python -m falcon_runtime convert "
            f"{shlex.quote(model.name)}. Or start with --draft none."
        )
    if is_foreign(model.folder):
        raise DraftUnusable(
            f"{model.title} is somebody else's program, and only models that this project converted can draft. Start "
            "with --draft none."
        )
    manifest = read_manifest(model.folder)
    check_program(model.folder, manifest)
    return DraftSource(model.folder, manifest)


def check_drafts_for(draft: DraftSource, folder: Path, manifest: AnyManifest) -> None:
    """Errors: DraftUnusable unless `draft` has the tokens of the model in `folder`, by the same ids, and its backend.

    Slots and context may be fewer: what is beyond them gets no drafts.
    """
    titles = f"{draft.manifest.title} cannot draft for {manifest.title}"
    remedy = "Choose a smaller model of the same family, --draft auto, or --draft none."
    if not isinstance(manifest, Manifest):
        raise DraftUnusable(f"{titles}, which is somebody else's program. {remedy}")
    if draft.manifest.backend != manifest.backend:
        raise DraftUnusable(f"{titles}: it was lowered for another backend, {draft.manifest.backend}. {remedy}")
    if draft.manifest.vocabulary != manifest.vocabulary:
        sizes = f"it has a vocabulary of {draft.manifest.vocabulary:,} tokens, not {manifest.vocabulary:,}"
        raise DraftUnusable(f"{titles}: {sizes}. {remedy}")
    hashes = draft.manifest.tokenizer_sha256, manifest.tokenizer_sha256
    if None not in hashes and hashes[0] == hashes[1]:
        return
    try:
        same = tokenizer_files.token_ids(draft.folder) == tokenizer_files.token_ids(folder)
    except Unreadable as error:
        raise DraftUnusable(f"{titles}: a tokenizer cannot be read ({error}). {remedy}") from error
    if not same:
        raise DraftUnusable(f"{titles}: it has another tokenizer. {remedy}")


def _check_memory(draft: Manifest, manifest: AnyManifest) -> None:
    """Errors: DraftUnusable."""
    needed, available = manifest.memory_bytes + draft.draft_bytes, available_memory()
    if needed > available:
        raise DraftUnusable(
            f"{draft.title} does not draft for {manifest.title}: together they need {needed / 1e9:.1f} GB of memory, "
            f"and {available / 1e9:.1f} GB are available. End other programs, or convert it again with fewer --slots."
        )
