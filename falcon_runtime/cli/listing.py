"""The models that there are: the catalogue's, what is converted, and what lies between them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import FalconError, UnsupportedProgram
from ..models.catalog import CATALOG, CatalogEntry
from ..models.library import converted_models, passed_over
from ..models.manifest import Manifest
from ..models.reading import AnyManifest, read_model
from ..models.sources import Wheel
from ..system.unicode import whole


@dataclass(frozen=True)
class Listed:
    name: str
    state: Literal["converted", "stock", "not converted", "damaged", "skipped"]
    reason: str | None = None
    """Why it is damaged or skipped."""
    entry: CatalogEntry | None = None
    manifest: AnyManifest | None = None

    def __str__(self) -> str:
        lines = [f"{self.state}: {detail}" if (detail := self._detail()) else self.state]
        if self.entry:
            lines += self._facts(self.entry)
        return whole(f"{self.name:26}" + f"\n{'':26}".join(lines))

    def _detail(self) -> str:
        m = self.manifest
        if m:
            recipe = f"{m.recipe}, " if isinstance(m, Manifest) else ""
            return f"{recipe}{m.context:,} tokens, {m.program_bytes / 1e6:,.0f} MB"
        return self.reason or ""

    def _facts(self, entry: CatalogEntry) -> list[str]:
        """What the catalogue says of a model, for people, by lines."""
        facts = [f"{entry.parameters / 1e9:.2f}B · {source_of(entry)}", f"{entry.licence}: {entry.licence_url}"]
        if self.state != "not converted":
            return facts
        sizes = (entry.download_bytes, entry.program_bytes, entry.memory_bytes)
        download, program, memory = (f"{size / 1e9:.1f} GB" for size in sizes)
        slots = f"{entry.slots} slot{'s' * (entry.slots > 1)}"
        return [f"{download} to download, {program} when converted, {memory} of memory to run {slots}", *facts]

    def _source(self) -> str | None:
        if self.manifest:
            return self.manifest.source
        return source_of(self.entry) if self.entry else None

    def facts(self) -> dict[str, Any]:
        """The same for programs; sizes are in bytes, and null where they are not known."""
        entry, known = self.entry, self.manifest or self.entry
        return {
            "name": whole(self.name),
            "state": self.state,
            "reason": self.reason,
            "title": known.title if known else None,
            "recipe": known.recipe if known else None,
            "context": known.context if known else None,
            "slots": known.slots if known else None,
            "parameters": known.parameters or None if known else None,
            "download_bytes": entry.download_bytes if entry else None,
            "program_bytes": known.program_bytes if known else None,
            "memory_bytes": known.memory_bytes if known else None,
            "source": self._source(),
            "licence": entry.licence if entry else None,
            "licence_url": entry.licence_url if entry else None,
        }


def listed(folder: Path) -> list[Listed]:
    """The catalogue's models in its order, then the other ones in the models `folder`, then what is passed over."""
    converted = converted_models(folder)
    names = [*CATALOG, *(name for name in converted if name not in CATALOG)]
    models = [_looked_at(folder / name) if name in converted else _known(name) for name in names]
    return [*models, *(Listed(name, "skipped", reason) for name, reason in passed_over(folder).items())]


def source_of(entry: CatalogEntry) -> str:
    return entry.source.requirement if isinstance(entry.source, Wheel) else str(entry.source)


def _known(name: str) -> Listed:
    return Listed(name, "not converted", entry=CATALOG[name])


def _looked_at(folder: Path) -> Listed:
    entry = CATALOG.get(folder.name)
    try:
        manifest = read_model(folder)
        return Listed(folder.name, "stock" if manifest.recipe == "stock" else "converted", None, entry, manifest)
    except UnsupportedProgram as error:
        return Listed(folder.name, "skipped", " ".join(str(error).split()), entry)
    except FalconError as error:
        return Listed(folder.name, "damaged", " ".join(str(error).split()), entry)
