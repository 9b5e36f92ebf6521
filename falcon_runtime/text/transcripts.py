"""What the model read and wrote lately, as text and as the tokens themselves.

The engine reuses its KV cache up to the first token that differs, and a model may spell its answer in other tokens than
the tokenizer would choose for the same text. So that the next turn reads nothing twice, answers keep their tokens here.
"""

import threading
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from .encoder import Encoder

MAX_TRANSCRIPTS = 64
MAX_CHARACTERS = 1_000_000
"""Of all transcripts together: some megabytes."""

Record = Callable[[int, str], None]
"""Takes the next token of an answer, and the text that it completes."""


class Transcript:
    """A rendered prompt and its tokens, and an answer that grows token by token."""

    def __init__(self, prompt: str, tokens: Sequence[int]):
        self.prompt, self.answer = prompt, ""
        self.prompt_length = len(tokens)
        self.tokens = array("I", tokens)
        self.ends = array("I", [0])
        """Characters of the answer after each number of its tokens."""
        self.over = False
        """Whether what comes now belongs to no answer's text."""

    def add(self, token: int, text: str) -> None:
        self.answer += text
        self.tokens.append(token)
        self.ends.append(len(self.answer))

    def common(self, text: str) -> tuple[int, int]:
        """How many characters at the beginning of `text` are the prompt and the longest possible part of the answer,
        cut between tokens, and how many tokens those are; (0, 0) where they are not even the prompt."""
        start = len(self.prompt)
        if not text.startswith(self.prompt):
            return 0, 0
        differs = bisect_left(self.ends, True, key=lambda end: not text.startswith(self.answer[:end], start))
        end = self.ends[differs - 1]
        # The fewest tokens with this end: any more are pieces of a character that was never completed.
        return start + end, self.prompt_length + bisect_left(self.ends, end)


class Transcripts:
    """The latest conversations, at most `MAX_TRANSCRIPTS` and `MAX_CHARACTERS`. Thread-safe."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder
        self._lock = threading.Lock()
        self._transcripts: deque[Transcript] = deque(maxlen=MAX_TRANSCRIPTS)

    def begin(self, prompt: str, tokens: Sequence[int]) -> Record:
        """Starts a transcript: `prompt` as rendered (its control tokens as seals, so that none is taken for what people
        spell), `tokens` as the engine gets it. Returns what takes the answer."""
        transcript = Transcript(prompt, tokens)
        with self._lock:
            self._transcripts.append(transcript)
            while len(self._transcripts) > 1 and self._size() > MAX_CHARACTERS:
                self._transcripts.popleft()
        return partial(self._add, transcript)

    def encode(self, text: str) -> list[int]:
        """Tokens of a rendered conversation: those of the longest transcript that it goes on from, then the encoder's.
        Without such a transcript, the encoder's alone.

        It must go on with a control token, as after a complete answer, or not at all. Control tokens are found before
        anything else is tokenized, so that what stands on either side of one never merges; at any other place the two
        parts could give tokens that the model has never seen side by side.
        """
        characters, tokens = 0, array("I")
        with self._lock:
            for transcript in self._transcripts:
                shared, count = transcript.common(text)
                # Of equal ones the latest: its tokens are likelier to be in the KV cache still.
                if shared >= characters and (shared == len(text) or text.startswith(self._encoder.seal_mark, shared)):
                    characters, tokens = shared, transcript.tokens[:count]
        return [*tokens, *self._encoder(text[characters:])]

    def _add(self, transcript: Transcript, token: int, text: str) -> None:
        """A control token ends the transcript: it has no text, so what follows cannot be found by text."""
        with self._lock:
            transcript.over = transcript.over or token in self._encoder.control_ids
            if not transcript.over:
                transcript.add(token, text)

    def _size(self) -> int:
        return sum(len(transcript.prompt) + len(transcript.answer) for transcript in self._transcripts)
