"""Conversion: from a checkpoint to a folder with a .pte, its tokenizer and its manifest."""

from .conversion import convert

__all__ = ["convert"]
