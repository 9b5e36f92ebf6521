"""Folders with programs as others export them, made once and kept in the user's cache."""

import shutil
import subprocess
import sys
from pathlib import Path

from .command_line import ROOT
from .kept import cache_of, made_once

SOURCES = [Path(__file__).with_name(name) for name in ("stock_models.py", "small_models.py")]
RUNNING = ("exporter", "exporter-static", "exporter-8da4w", "ring", "positions", "eight", "whole-text")
"""Those that can run: small Llamas, with the small tokenizer beside them."""
NAME = "small_llama.pte"


def stock_program(name: str) -> Path:
    """The folder of a program of `stock_models.PROGRAMS`. All of them are made when the first is wanted."""
    return made_once(cache_of(*SOURCES) / "programs", _make) / name


def _make(folder: Path) -> None:
    from .small_models import small_tokenizer

    # In one process, since imports take longer than what is exported, and one of its own, where nobody keeps what
    # exporters log: that takes longer still.
    command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.stock_models", str(folder), NAME]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in RUNNING:
        small_tokenizer().save_pretrained(folder / name)


def copied(name: str, folder: Path) -> Path:
    """The folder of a program, to be changed."""
    return Path(shutil.copytree(stock_program(name), folder))


def patched(name: str, folder: Path, found: bytes, put: bytes) -> Path:
    """The same with other bytes in the program, as many."""
    assert len(found) == len(put)
    program = copied(name, folder) / NAME
    content = program.read_bytes()
    assert found in content
    program.write_bytes(content.replace(found, put))
    return folder
