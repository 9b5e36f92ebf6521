"""Any model that is here: one that this project has converted, or a program of somebody else's."""

import os
from pathlib import Path
from typing import Literal

from .manifest import MANIFEST, Manifest, RecipeName, check_program, is_converted, read_manifest
from .stock.manifest import StockManifest, is_stock, read_stock

AnyManifest = Manifest | StockManifest
Recipe = RecipeName | Literal["stock"]
"""How a model's weights are stored; of somebody else's program that is not asked."""


def is_model(folder: Path) -> bool:
    """Whether there is a model in `folder`, be it whole or damaged."""
    return is_converted(folder) or is_stock(folder)


def is_foreign(folder: Path) -> bool:
    """Whether what is in `folder` is somebody else's program."""
    return is_stock(folder) and not os.path.lexists(folder / MANIFEST)


def read_model(folder: Path) -> AnyManifest:
    """Errors: those of `read_manifest` and `read_stock`."""
    return read_stock(folder) if is_foreign(folder) else read_manifest(folder)


def tokenizer_folder(folder: Path, manifest: AnyManifest) -> Path:
    """Where the tokenizer.json of the model in `folder` is. Errors: TokenizerError."""
    return manifest.tokenizer_folder if isinstance(manifest, StockManifest) else folder


def check_model(folder: Path, manifest: AnyManifest) -> None:
    """Raises ModelDamaged unless the program is what a conversion wrote. Of somebody else's there is no checksum."""
    if isinstance(manifest, Manifest):
        check_program(folder, manifest)
