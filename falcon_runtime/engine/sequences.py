"""What everybody who feeds a program does with sequences."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key")
STRIDE = 64
"""Tokens that are compared at once."""


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    start, end = 0, min(len(a), len(b))
    while start < end and a[start : start + STRIDE] == b[start : start + STRIDE]:
        start += STRIDE
    return next((i for i in range(start, end) if a[i] != b[i]), end)


def longest_prefix(text: Sequence[int], caches: Sequence[Sequence[int]], own: int) -> int:
    """Index of the cache that has the longest beginning of `text`: `own`, if no other has a longer one."""
    return max(range(len(caches)), key=lambda i: (common_prefix(caches[i], text), i == own))


def shares(needs: Mapping[Key, int], budget: int) -> dict[Key, int]:
    """How many tokens of each sequence to feed, which has `needs` of them, at least one: together at most `budget`, but
    one of each in any case. Shares are equal, and short sequences leave to others what they do not need."""
    result = {}
    for left, key in zip(range(len(needs), 0, -1), sorted(needs, key=lambda key: needs[key]), strict=True):
        result[key] = max(1, min(needs[key], budget // left))
        budget -= result[key]
    return result
