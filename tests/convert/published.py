"""A small model on a stand-in for the hub, for the tests that download it."""

from pathlib import Path
from typing import Any

import torch

from falcon_runtime.convert.checkpoint import Checkpoint
from falcon_runtime.convert.opening import Opened, Origin, open_checkpoint, open_source
from falcon_runtime.models.sources import HubRepository

NAME = "falconers/Small-1.5-Llama"
REPOSITORY = HubRepository(NAME)


def open_hub(folder: Path, repository: HubRepository = REPOSITORY, **options: Any) -> Opened:
    return open_source(repository, "Small", folder, **options)


def hash_of(opened: Opened) -> str:
    return opened.origin.sha256(opened.checkpoint.files)


def local_hash(path: Path) -> str:
    return Origin("local").sha256(open_checkpoint(path).files)


def read_all(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {name: checkpoint.tensor(name).clone() for name in checkpoint.stream()}
