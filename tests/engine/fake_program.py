"""A program without a model: it keeps tokens where the real one keeps keys and values."""

from collections.abc import Sequence

import numpy as np

VOCABULARY = 97


class FakeProgram:
    """Keeps the tokens of each slot as the KV cache would, and checks what the real program would abort on."""

    copies = rewinds = True

    def __init__(self, slots: int = 1, context: int = 64, max_tokens: int = 16, max_rows: int = 8):
        self.slots, self.context, self.max_tokens, self.max_rows = slots, context, max_tokens, max_rows
        self.cache: list[list[int]] = [[] for _ in range(slots)]
        self.batches: list[list[int]] = []

    def next_logits(self, text: Sequence[int]) -> np.ndarray:
        """Logits [vocabulary] of the token that follows `text`."""
        raise NotImplementedError

    def forward(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], rows: Sequence[int]) -> np.ndarray:
        assert len(tokens) == len(starts) == self.slots
        assert 1 <= sum(map(len, tokens)) <= self.max_tokens
        assert len(rows) <= self.max_rows
        self.batches.append([len(part) for part in tokens])
        texts = []
        for cache, new, start in zip(self.cache, tokens, starts, strict=True):
            assert start <= len(cache), "a hole in the cache"
            assert start + len(new) <= self.context
            if new and not self.rewinds:
                assert start in (0, len(cache)), "something is taken back"
                del cache[start:]
            cache[start : start + len(new)] = new  # What lies behind it stays, as in the real one.
            texts += [cache[: start + i + 1] for i in range(len(new))]
        return np.stack([self.next_logits(texts[row]) for row in rows]) if rows else np.empty((0, VOCABULARY))

    def copy(self, source: int, target: int, count: int) -> None:
        assert self.copies
        assert source != target
        assert count <= len(self.cache[source]), "more than there is"
        self.cache[target] = self.cache[source][:count]
