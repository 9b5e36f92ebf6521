"""Constraints while tokens are chosen, by llguidance."""

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..constraint import Constraint
from ..system.panics import no_panics
from .sampler import Mask

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


MAX_TOKEN_BYTES = 200
"""Longer tokens are not written under a constraint."""


class Follower:
    """Where one answer is in what it must be. Not thread-safe. Without a matcher it is one of which nothing can come,
    because of `problem`."""

    def __init__(self, matcher: "LLMatcher | None", problem: str = "") -> None:
        self._matcher, self._problem = matcher, problem

    @property
    def problem(self) -> str:
        """Why it cannot be followed, in a sentence; empty if it can."""
        if self._matcher and self._matcher.is_error():
            return f"it cannot be followed: {' '.join(self._matcher.get_error().split()):.300}"
        return self._problem

    @property
    def over(self) -> bool:
        """Whether nothing can follow, the answer being whole."""
        return bool(self._matcher and self._matcher.is_stopped() and not self._matcher.is_error())

    def take(self, token: int) -> None:
        """The answer goes on with `token`, which is allowed."""
        if self._matcher:
            self._matcher.consume_token(token)

    def forced(self, count: int) -> tuple[int, ...]:
        """The next tokens, at most `count`, if there is one way only to go on."""
        return tuple(self._matcher.compute_ff_tokens()[:count]) if self._matcher else ()

    def allowed(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` may come next, from the first on."""
        return int(self._matcher.validate_tokens(list(tokens))) if self._matcher else 0

    def masks(self, drafted: Sequence[int]) -> list[Mask]:
        """Which tokens are allowed next, and after each of the `drafted` ones, which are."""
        assert self._matcher
        masks = [self._mask(self._matcher)]
        for token in drafted:
            self._matcher.consume_token(token)
            masks.append(self._mask(self._matcher))
        self._matcher.rollback(len(drafted))
        return masks

    @staticmethod
    def _mask(matcher: "LLMatcher") -> Mask:
        return np.frombuffer(matcher.compute_bitmask(), np.int32)


class Grammars:
    """What constraints need to know of a model: its tokenizer's file, the tokens [vocabulary] of its logits, and those
    that end an answer. It is read when the first constraint comes, which takes a second."""

    def __init__(self, tokenizer: Path, vocabulary: int, end_tokens: Sequence[int]) -> None:
        self._file, self._vocabulary, self._end_tokens = tokenizer, vocabulary, list(end_tokens)
        self._tokenizer: LLTokenizer | None = None
        self._problem = ""
        """Why there is none, once that is known."""

    def follower(self, constraint: Constraint) -> Follower:
        """One for an answer that begins."""
        from llguidance import LLMatcher

        if not self._tokenizer and not self._problem:
            self._read()
        if not self._tokenizer:
            return Follower(None, self._problem)
        matcher = LLMatcher(self._tokenizer, constraint.compiled(), log_level=0)
        if constraint.begun and not matcher.consume_tokens(self._tokenizer.tokenize_str(constraint.begun)):
            return Follower(None, "the text so far is not the beginning of any text that it allows")
        return Follower(matcher)

    def _read(self) -> None:
        from llguidance import LLTokenizer

        try:
            with no_panics():
                self._tokenizer = LLTokenizer(
                    _unspelled(self._file.read_text()), n_vocab=self._vocabulary, eos_token=self._end_tokens
                )
        except Exception as error:  # What the library raises for a tokenizer that it does not know is not documented.
            self._problem = f"this model's tokenizer does not support constraints: {error!s:.300}"


def _unspelled(tokenizer: str) -> str:
    """A tokenizer's file in which nobody knows the spelling of control tokens, nor of those that are too long.

    llguidance would write control tokens where a constraint spells them as text, as a schema may, and that would end
    the answer or begin another turn. Of long tokens, such as rows of dashes, it cannot make its tree.
    """
    content = json.loads(tokenizer)
    secret = secrets.randbits(64)
    control = {token["content"]: token["id"] for token in content["added_tokens"] if token["special"]}

    def too_long(piece: str) -> bool:
        return len(piece.encode()) > MAX_TOKEN_BYTES

    def name(piece: str, id: int) -> str:
        return f"\ue000{secret}.{control.get(piece, id)}" if piece in control or too_long(piece) else piece

    for token in content["added_tokens"]:
        token["content"] = name(token["content"], token["id"])
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {name(piece, id): id for piece, id in model["vocab"].items()}
    else:  # Unigram's has scores.
        model["vocab"] = [[name(piece, id), score] for id, (piece, score) in enumerate(model["vocab"])]
    if "merges" in model:
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if not too_long("".join(pair))]
    return json.dumps(content)
