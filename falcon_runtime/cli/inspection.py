"""What a converted model is, and whether all of it is there."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import FalconError
from ..models.drafts import AUTO, DraftWish
from ..models.library import Model
from ..models.manifest import PROGRAM, Manifest, read_manifest
from ..system.checksum import sha256_of
from ..system.instruction_sets import chosen
from ..system.machine import cpu_name
from ..text.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Inspection:
    manifest: Manifest
    draft: str
    """Which model drafts for it unless another is asked for, in words."""
    problems: list[str]
    """What is not as the manifest says; empty if the model is whole."""

    def __str__(self) -> str:
        m, shape = self.manifest, self.manifest.shape
        sizes = [f"{name} {size / 1e6:,.1f} MB" for name, size in m.parts.items()]
        kv_cache = shape.kv_cache_bytes(m.context, m.slots, m.cache_bits)
        lines = {
            "architecture": f"{m.architecture}, {m.parameters / 1e9:.2f} billion parameters: {shape.layers} layers of "
            f"{shape.hidden}, {shape.heads} heads and {shape.kv_heads} for keys and values of {shape.head_dim}, MLP of "
            f"{shape.intermediate}, {m.vocabulary:,} tokens{', tied' * shape.tied}",
            "recipe": f"{m.recipe} for {m.backend}",
            "program": f"{m.program_bytes / 1e6:,.1f} MB: {', '.join(sizes)}",
            "context": f"{m.context:,} tokens in each of {m.slots} slot{'s' * (m.slots > 1)}",
            "KV cache": f"{kv_cache / 1e6:,.1f} MB in {m.cache_bits} bits",
            "memory": f"about {m.memory_bytes / 1e9:,.1f} GB to run",
            "draft": self.draft,
            "source": f"{m.source}, SHA-256 {m.source_sha256}",
            "made by": ", ".join(
                [f"converter {m.converter}", *(f"{name} {version}" for name, version in m.versions.items())]
            ),
            "here": f"{chosen().title} on {cpu_name()}",
            "state": "whole" if not self.problems else f"\n{'':15}".join(["damaged:", *self.problems]),
        }
        return "\n".join([m.title, *(f"  {name:13}{text}" for name, text in lines.items())])


def inspect(model: Model, models_dir: Path) -> Inspection:
    """Reads all of a converted model, its program too. Errors: UnknownModel, and ModelDamaged where there is no telling
    what it should be."""
    folder = model.folder
    manifest = read_manifest(folder)
    problems = []
    try:
        if sha256_of(folder / PROGRAM) != manifest.program_sha256:
            problems.append(f"{PROGRAM} was changed: its SHA-256 is not the manifest's. Convert the model again.")
    except OSError as error:
        problems.append(f"{PROGRAM} cannot be read ({error.strerror}).")
    try:
        load_tokenizer(folder, manifest)
    except FalconError as error:
        problems.append(str(error))
    return Inspection(manifest, _draft(model, models_dir), problems)


def _draft(model: Model, models_dir: Path) -> str:
    wanted = model.entry.draft if model.entry else None
    try:
        draft = DraftWish(AUTO, model, models_dir).find()
    except FalconError as error:
        return f"none: {' '.join(str(error).split())}"
    if draft:
        return f"{draft.manifest.title}, {draft.manifest.draft_bytes / 1e9:,.1f} GB more"
    return f"none until {wanted} is converted" if wanted else "none of its own; --draft names one"
