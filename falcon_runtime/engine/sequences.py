"""What everybody who feeds a program does with sequences."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key")


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def shares(needs: Mapping[Key, int], budget: int) -> dict[Key, int]:
    """How many tokens of each sequence to feed, which has `needs` of them, at least one: together at most `budget`, but
    one of each in any case. Shares are equal, and short sequences leave to others what they do not need."""
    result = {}
    for left, key in zip(range(len(needs), 0, -1), sorted(needs, key=lambda key: needs[key]), strict=True):
        result[key] = max(1, min(needs[key], budget // left))
        budget -= result[key]
    return result
