"""Loops: an answer that repeats the same words again and again, as small models do, noticed while it is written.

An answer loops when its end is one group of tokens, the period, over and over. What is ordinary also repeats itself:
rulers, rows of a table, a matrix of zeros, a line of code for each layer. So the longer a period is, the longer it must
go on, and it must go on far longer if it repeats itself within, as a row of zeros does and a sentence does not:

    period                      distinct tokens     a loop after
    "ha "                       1                   53 tokens
    "la femme, "                4                   62 tokens, in the 16th copy
    a line of code              15 of 20            110 tokens, in the 6th copy
    a paragraph                 65 of 100           350 tokens, in the 4th copy
    "[0, 0, …, 0],", ten zeros  6 of 34             526 tokens, in the 16th copy
"""

import numpy as np

LONGEST = 200
"""The longest period, in tokens, that is noticed."""
COPIES = 3
SPARE = 50
"""So many tokens beside the copies: short periods must fill a line or two, as no ruler and no row of 20 zeros does."""
ROOM = 1024


def needed(period: int, distinct: int) -> float:
    """How many tokens of a period with `distinct` different ones make a loop."""
    return SPARE + COPIES * period * max(1.0, period / distinct - 1)


class Loop:
    """Watches one answer. A token takes a few microseconds, however long the answer is."""

    def __init__(self) -> None:
        # The latest tokens, newest first, so that a period is an index. They are written from the end to the beginning
        # of a longer array and moved back only when it is full.
        self._tokens = np.full(LONGEST + ROOM, -1, np.int32)
        self._first = ROOM
        self._runs = np.zeros(LONGEST, np.int32)
        """For each period, from 1 on: how many of the latest tokens are equal to the one a period before."""
        self._least = COPIES * np.arange(1, LONGEST + 1, dtype=np.int32) + SPARE - np.arange(1, LONGEST + 1)
        """How many that must be at least: all but the first copy."""

    def add(self, token: int) -> bool:
        """Takes the answer's next token; whether the answer loops now."""
        self._runs += 1
        self._runs *= self._tokens[self._first : self._first + LONGEST] == token
        if not self._first:
            self._tokens[ROOM:] = self._tokens[:LONGEST]
            self._first = ROOM
        self._first -= 1
        self._tokens[self._first] = token
        long = self._runs >= self._least
        index = int(long.argmax())
        if not long[index]:
            return False
        # The shortest period is enough: any other is a multiple of it and would have to go on for longer.
        period = index + 1
        distinct = len(set(self._tokens[self._first : self._first + period].tolist()))
        return int(self._runs[index]) + period >= needed(period, distinct)
