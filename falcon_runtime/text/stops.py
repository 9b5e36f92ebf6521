"""Stop texts: where an answer ends before one of them, its tokens end with its text."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..chunk import TokenLogprobs


@dataclass(frozen=True)
class Piece:
    """A token of an answer and the text that it completes: none of a special token, or within a character."""

    token: int
    text: str
    logprobs: TokenLogprobs | None = None


class StopTexts:
    """Lets an answer pass, token by token, up to the first of `stops`.

    Text that may be the beginning of a stop text is held back until it is known, and so is a token none of whose text
    has passed. A token that a stop text begins within stays.
    """

    def __init__(self, stops: Sequence[str]):
        self._stops = stops
        self._text = ""
        """What is held back."""
        self._pieces: list[tuple[int, Piece]] = []
        """Tokens that are held back, and where in `_text` the text of each begins."""
        self.met = False
        """Whether a stop text has come. Nothing passes any more."""

    def add(self, piece: Piece) -> tuple[str, list[Piece]]:
        """Takes the answer's next token; the text and the tokens that pass now."""
        if self.met:
            return "", []
        self._pieces.append((len(self._text), piece))
        self._text += piece.text
        if not self._stops:
            return self.rest()
        end = _first_stop(self._text, self._stops)
        self.met = end is not None
        return self._pass(len(self._text) - partial_stop(self._text, self._stops) if end is None else end)

    def rest(self) -> tuple[str, list[Piece]]:
        """What is still held back when the answer has ended: it passes, unless it lies after a stop text."""
        if self.met:
            return "", []
        text, pieces = self._text, [piece for _, piece in self._pieces]
        self._text, self._pieces = "", []
        return text, pieces

    def _pass(self, end: int) -> tuple[str, list[Piece]]:
        passed = [piece for start, piece in self._pieces if start < end]
        self._pieces = [(start - end, piece) for start, piece in self._pieces[len(passed) :]]
        text, self._text = self._text[:end], self._text[end:]
        return text, passed


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop text in `text` begins."""
    return min((i for stop in stops if (i := text.find(stop)) >= 0), default=None)


def partial_stop(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of `text` may be the beginning of a stop text."""
    return max(
        (n for stop in stops for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n])), default=0
    )
