"""Stop texts: text and tokens end together, wherever the cut falls and however many tokens come at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_runtime.text.stops import Piece, StopTexts


def answer(texts: list[str], stops: list[str]) -> tuple[list[tuple[str, list[int]]], bool]:
    """What passes with each token, those of which are numbered, and at the end; and whether a stop text was met."""
    stopping = StopTexts(stops)
    passed = [stopping.add(Piece(i, text)) for i, text in enumerate(texts)]
    passed.append(stopping.rest())
    return [(text, [piece.token for piece in pieces]) for text, pieces in passed], stopping.met


@pytest.mark.parametrize(
    ("texts", "stops", "passed", "met"),
    [
        # Without stop texts nothing is held back, nor without a character.
        (["a", "", "b"], [], [("a", [0]), ("", [1]), ("b", [2]), ("", [])], False),
        # The space may begin " 8": it is held back, and goes with what follows it.
        ([" ", "7", ",", " ", "8"], [" 8"], [("", []), (" 7", [0, 1]), (",", [2]), ("", []), ("", []), ("", [])], True),
        # Held back until the end of the answer.
        (["7", " "], [" 8"], [("7", [0]), ("", []), (" ", [1])], False),
        # A token that the stop text begins within stays, with what is before it.
        (["ab", "cd", "ef"], ["bcd"], [("a", [0]), ("", []), ("", []), ("", [])], True),
        (["abcdef"], ["cd"], [("ab", [0]), ("", [])], True),
        (["ab", "cdef"], ["cd"], [("ab", [0]), ("", []), ("", [])], True),
        (["ab", "xy"], ["bc"], [("a", [0]), ("bxy", [1]), ("", [])], False),
        # Tokens within a character belong to the one that completes it.
        (["a", "", "é", "b"], ["é"], [("a", [0]), ("", []), ("", []), ("", []), ("", [])], True),
        (["a", "", "é", "b"], ["b"], [("a", [0]), ("", []), ("é", [1, 2]), ("", []), ("", [])], True),
        # The first that is complete counts, and of several at once the one that begins first.
        (["a", "b", "c"], ["abc", "b"], [("", []), ("a", [0]), ("", []), ("", [])], True),
        (["xabcx"], ["b", "abc"], [("x", [0]), ("", [])], True),
        (["aa", "ab"], ["aab"], [("", []), ("a", [0]), ("", [])], True),
    ],
)
def test_text_and_tokens_end_together(
    texts: list[str], stops: list[str], passed: list[tuple[str, list[int]]], met: bool
) -> None:
    assert answer(texts, stops) == (passed, met)


texts = st.lists(st.text("abc ", max_size=3), max_size=12)


@given(texts, st.lists(st.text("abc ", min_size=1, max_size=4), max_size=3))
def test_what_passes_is_the_answer_before_the_first_stop_text(texts: list[str], stops: list[str]) -> None:
    passed, met = answer(texts, stops)
    whole, text = "".join(texts), "".join(text for text, _ in passed)
    assert whole.startswith(text)
    assert met == any(stop in whole for stop in stops)
    assert not any(stop in text for stop in stops)
    assert any(whole.startswith(stop, len(text)) for stop in stops) if met else text == whole
    # Tokens: all in order, up to the last one of which some text has passed.
    tokens = [token for _, some in passed for token in some]
    assert tokens == list(range(len(tokens)))
    before = len("".join(texts[: len(tokens)]))
    assert before >= len(text)
    if met:
        assert not tokens or len("".join(texts[: len(tokens) - 1])) < len(text)
    # Until the end, a token passes only with some of its text or of the text behind it.
    so_far, count = "", 0
    for more, some in passed[:-1]:
        so_far, count = so_far + more, count + len(some)
        assert not stops or not count or len("".join(texts[: count - 1])) < len(so_far)
