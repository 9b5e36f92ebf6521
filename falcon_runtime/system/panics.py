"""Panics of libraries written in Rust, which pyo3 makes exceptions of that `except Exception` does not catch."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_panics() -> Iterator[None]:
    """Makes a ValueError of a panic."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # The class cannot be imported.
            raise
        raise ValueError(f"the library panicked: {error}") from error
