"""Loops are noticed, and what only repeats itself for a while is not taken for one."""

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falcon_runtime.engine.repetition import LONGEST, Loop, needed

WORDS: dict[str, int] = {}


def tokens(words: str) -> list[int]:
    """A token for each word."""
    return [WORDS.setdefault(word, len(WORDS)) for word in words.split(" ")]


def end(answer: Iterable[int]) -> int | None:
    """After how many tokens an answer is found to loop."""
    loop = Loop()
    return next((count for count, token in enumerate(answer, 1) if loop.add(token)), None)


def varied(count: int, first: int = 1000) -> list[int]:
    """Tokens of which none occurs twice."""
    return list(range(first, first + count))


def paragraph(count: int) -> list[int]:
    """As prose has it: of 100 tokens about 60 are different ones."""
    return [token if i % 5 < 3 else 2000 + i % 7 for i, token in enumerate(varied(count))]


ROW = tokens("[") + tokens("0 ,") * 9 + tokens("0 ],")
ORDINARY = {
    "an ordinary text": varied(3000),
    "a list": [token for i in range(60) for token in (5, 6, 7, *varied(8, 100 * i))],
    "counting": [token for i in range(1000) for token in (1, 2, 5000 + i)],
    "digit by digit": [token for i in range(1000) for token in (*map(int, str(i)), 10, 11)],
    "a wide table": [token for _ in range(30) for token in tokens("| ---")][:40],
    "a ruler": tokens("-") * 50,
    "laughing": tokens("ha") * 12,
    "zeros": (ROW + tokens("\n")) * 10,
    "many zeros": (tokens("[") + tokens("0 ,") * 19 + tokens("0 ], \n")) * 20,
    "a refrain": [*paragraph(60), *varied(40, 9000)] + [*paragraph(60), *varied(40, 9500)] * 2,
    "a paragraph twice": paragraph(120) * 2,
    "a line of code for each of four layers": [*varied(30), *varied(20, 400) * 4, *varied(30, 700)],
    "almost the same again": [token for i in range(50) for token in (*varied(30), 50_000 + i)],
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_is_ordinary_goes_on(name: str) -> None:
    assert end(ORDINARY[name]) is None


@pytest.mark.parametrize(
    ("period", "within"),
    [
        (tokens("ha"), 60),
        (tokens("la femme ,"), 65),
        (tokens("The la femme ,"), 65),
        (varied(15), 15 * 7),
        (paragraph(60), 60 * 4),
        (paragraph(120), 120 * 4),
        (paragraph(LONGEST), LONGEST * 4),
        (ROW, 1000),
    ],
)
def test_a_loop_ends_soon(period: list[int], within: int) -> None:
    assert (end(period * 100) or 10_000) <= within
    before = varied(777, 70_000)
    assert (end(before + period * 100) or 10_000) <= len(before) + within


def test_a_loop_is_not_forgotten_where_tokens_are_moved() -> None:
    for before in (*range(1020, 1026), *range(2044, 2050)):  # They are after 1,024 and 2,048.
        assert end(varied(before) + tokens("ha") * 60) == before + needed(1, 1)


def test_one_other_token_is_a_new_beginning() -> None:
    line = tokens("la femme ,") * 15
    assert end((line + tokens("and")) * 2) is None


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=LONGEST), st.lists(st.integers(0, 9), max_size=50))
def test_every_loop_ends_and_no_sooner_than_it_must(period: list[int], before: list[int]) -> None:
    shortest = shortest_period(period)
    need = needed(len(shortest), len(set(shortest)))
    looping = shortest * int(need // len(shortest) + 2)
    count = end(looping)
    assert count is not None
    assert need <= count < need + 1
    found = end(before + looping)
    assert found is not None
    assert found <= len(before) + need + 1


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_nothing_ends_that_does_not_repeat_itself(data: st.DataObject) -> None:
    """An answer, with copies in it, that is found to loop has the period at its end, for as long as is said."""
    groups = data.draw(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8), min_size=1, max_size=4))
    answer = [
        token
        for _ in range(data.draw(st.integers(1, 4)))
        for token in data.draw(st.sampled_from(groups)) * data.draw(st.integers(1, 60))
    ]
    count = end(answer)
    assert count == next((n for n in range(1, len(answer) + 1) if loops(answer[:n])), None)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(120)), st.integers(1, 3))
def test_what_has_no_period_never_ends(order: Sequence[int], copies: int) -> None:
    answer = [token for copy in range(copies) for token in (*order, 1000 + copy)]
    assert end(answer) is None


def shortest_period(tokens: list[int]) -> list[int]:
    sizes = (n for n in range(1, len(tokens) + 1) if len(tokens) % n == 0)
    return next(tokens[:n] for n in sizes if tokens[:n] * (len(tokens) // n) == tokens)


def loops(answer: list[int]) -> bool:
    """The rule itself, without haste."""
    for period in range(1, len(answer) // 3 + 1):
        need = needed(period, len(set(answer[-period:])))
        length = period
        while length < len(answer) and answer[-length - 1] == answer[-length - 1 + period]:
            length += 1
        if length >= need:
            return True
    return False
