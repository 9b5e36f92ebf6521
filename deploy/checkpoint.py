"""A stand-in for the model hub that sends random weights in the shape of a Falcon, whichever Falcon is asked for."""

import mmap
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from falcon_runtime.models.catalog import CATALOG
from falcon_runtime.models.sources import HubRepository
from tests import hub

ROOT = Path(__file__).parents[1]
SHAPE = CATALOG["falcon3-1b-instruct"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
WORD = re.compile(r"\bw\d+\b")
"""Nearly all that such a model writes: nobody else does."""


@contextmanager
def serving_falcons(folder: Path, layers: int | None) -> Iterator[str]:
    """Writes the weights into `folder`, with as many layers as the model has or fewer, and gives the hub's address."""
    checkpoint, tokenizer = folder / "checkpoint", folder / "tokenizer"
    save_tokenizer(tokenizer, SHAPE.architecture.vocabulary)
    reduced = ["--layers", str(layers)] if layers else []
    command = [sys.executable, "-m", "benchmarks.random_checkpoint", SHAPE.name, str(checkpoint), str(tokenizer)]
    done = subprocess.run([*command, *reduced], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    with hub.serve() as stand_in:
        first, *others = (entry.source for entry in CATALOG.values() if isinstance(entry.source, HubRepository))
        stand_in.publish(first.repository, {path.name: mapped(path) for path in checkpoint.iterdir()})
        for other in others:
            stand_in.commits[other.repository] = stand_in.commits[first.repository]
        yield stand_in.endpoint


def save_tokenizer(folder: Path, size: int) -> None:
    """A tokenizer of so many tokens: bytes, special tokens, and words that no text is made into but all are written."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = (f"Ġw{number}" for number in range(size - len(alphabet) - len(SPECIAL)))
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate([*alphabet, *words])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    make: Any = PreTrainedTokenizerFast  # It has no types.
    make(tokenizer_object=tokenizer, eos_token=SPECIAL[-1], chat_template=TEMPLATE).save_pretrained(folder)


def mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
