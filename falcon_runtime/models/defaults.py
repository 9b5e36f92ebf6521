"""What a model is used with unless something else is asked for: on the page, over HTTP and on the command line."""

from dataclasses import dataclass

from ..sampling import SamplingParams
from .catalog import EXAMPLES, CatalogEntry, Examples
from .reading import AnyManifest


@dataclass(frozen=True)
class Defaults:
    sampling: SamplingParams
    system: str
    """The system prompt of a conversation that brings none; empty for none."""
    examples: Examples


def defaults_of(entry: CatalogEntry | None, manifest: AnyManifest | None) -> Defaults:
    """What the checkpoint recommends (its generation_config), changed by what the catalogue knows better."""
    sampling = {**(manifest.sampling if manifest else {}), **(entry.sampling if entry else {})}
    return Defaults(SamplingParams(**sampling), entry.system if entry else "", entry.examples if entry else EXAMPLES)
