"""Calls of the command line: in a process of their own as a user's, or without one."""

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from falcon_runtime.cli import main

ROOT = Path(__file__).parents[1]
Call = Callable[..., subprocess.CompletedProcess[str]]


def run(*arguments: str, models_dir: Path, input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "falcon_runtime", *arguments],
        env=os.environ | {"FALCON_MODELS_DIR": str(models_dir)},
        cwd=ROOT,
        input=input,
        capture_output=True,
        text=True,
        timeout=600,
    )


def run_bytes(*arguments: str | bytes, models_dir: Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "falcon_runtime", *arguments],
        env=os.environ | {"FALCON_MODELS_DIR": str(models_dir), "PYTHONIOENCODING": "utf-8"},
        cwd=ROOT,
        input=input,
        capture_output=True,
        timeout=600,
    )


@contextmanager
def calls(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    """A function that does within the tests' process what `run` does in one of its own."""

    def call(*arguments: str, models_dir: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("FALCON_MODELS_DIR", str(models_dir))
        code = main(list(arguments))
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    try:
        with warnings.catch_warnings():
            yield call
    finally:
        logging.disable(logging.NOTSET)
