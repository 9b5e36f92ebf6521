"""The streaming detokenizer: whatever the tokens, the pieces join to the text and none shows half a character."""

import codecs
import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from falcon_runtime.text.tokenizer import Decoder, Detokenizer

from .vocabularies import KINDS, byte_fallback, byte_level

TEXTS = [
    "Plain text,  with two spaces\nand a line.",
    "Family 👩‍👩‍👧‍👦, flag 🇦🇪, skin 👍🏽.",
    "مرحبًا بالعالم — كيف الحال؟",
    "你好，世界。日本語と한국어",
    "naïve café Ωμέγα",
]


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text_and_hold_whole_characters(make: object, text: str) -> None:
    tokenizer = make()  # type: ignore[operator]
    tokens = tokenizer.encode(text, add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer, [])
    pieces = [detokenizer.add(token) for token in tokens]
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
@pytest.mark.parametrize("text", TEXTS)
def test_an_answer_may_begin_at_every_character(make: object, text: str) -> None:
    tokenizer = make()  # type: ignore[operator]
    tokens = tokenizer.encode(text, add_special_tokens=False)
    for cut in range(1, len(tokens)):
        before = tokenizer.decode(tokens[:cut])
        if "\N{REPLACEMENT CHARACTER}" in before:
            continue  # A prompt is text: it never ends within a character.
        detokenizer = Detokenizer(tokenizer, tokens[:cut])
        assert before + "".join(detokenizer.add(token) for token in tokens[cut:]) == text


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_an_answer_cut_within_a_character_shows_nothing_of_it(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    tokens = tokenizer.encode("at 👍", add_special_tokens=False)
    detokenizer = Detokenizer(tokenizer, [])
    assert "".join(detokenizer.add(token) for token in tokens[:-1]) == "at "


def test_special_tokens_have_no_text() -> None:
    tokenizer = byte_level()
    detokenizer = Detokenizer(tokenizer, [])
    tokens = [*tokenizer.encode("a"), tokenizer.eos_token_id, *tokenizer.encode("b")]
    assert "".join(detokenizer.add(token) for token in tokens) == "ab"


def test_bytes_that_are_no_character_do_not_hold_up_what_follows() -> None:
    tokenizer = byte_level()
    broken = tokenizer.encode("é")[:1]
    detokenizer = Detokenizer(tokenizer, [])
    pieces = [detokenizer.add(token) for token in [*broken, *tokenizer.encode("ok")]]
    assert "".join(pieces) == "\N{REPLACEMENT CHARACTER}ok"


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_a_prompt_that_ends_within_a_character_is_not_repeated(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    for before, text, after in (("at é", "é", "e"), ("at 👍", "👍", "e")):
        *prompt, last = tokenizer.encode(before, add_special_tokens=False)
        detokenizer = Detokenizer(tokenizer, prompt)
        assert detokenizer.add(last) == text
        assert detokenizer.add(tokenizer.encode(after, add_special_tokens=False)[-1]).strip() == after
    detokenizer = Detokenizer(tokenizer, tokenizer.encode("at \N{REPLACEMENT CHARACTER}", add_special_tokens=False))
    assert detokenizer.add(tokenizer.encode("e", add_special_tokens=False)[-1]).strip() == "e"


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_the_text_of_single_tokens(make: object) -> None:
    tokenizer = make()  # type: ignore[operator]
    decode = Decoder(tokenizer)
    assert decode([]) == decode([tokenizer.eos_token_id]) == ""
    assert decode(tokenizer.encode("é", add_special_tokens=False)[-1:]) == "\N{REPLACEMENT CHARACTER}"
    tokens = tokenizer.encode("at tea, 👍", add_special_tokens=False)
    assert decode(tokens).lstrip() == "at tea, 👍"
    space = " " if make is byte_level else " t"
    assert space in [decode([token]) for token in tokens]


# Any tokens at all

TOKENIZERS = {name: kind() for name, kind in KINDS.items()}
BYTE_LEVEL = ("byte_level", "whole_words")
IDS = st.lists(st.integers(0, 280), max_size=12)
FIRST_BYTE = 3
"""The id of `<0x00>` in `byte_fallback`."""


def shown(tokenizer: PreTrainedTokenizerFast, prompt: Sequence[int], tokens: Sequence[int]) -> str:
    detokenizer = Detokenizer(tokenizer, prompt)
    return "".join(detokenizer.add(token) for token in tokens)


def in_utf8(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[int]) -> bytes:
    """The text of tokens with byte fallback, and with the space that is put before it."""
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    pieces = [tokenizer.convert_ids_to_tokens(token) for token in tokens if token not in special]
    named = [(piece, re.fullmatch("<0x(..)>", piece)) for piece in pieces if piece]
    return b"".join(bytes.fromhex(byte[1]) if byte else piece.replace("▁", " ").encode() for piece, byte in named)


@pytest.mark.parametrize("kind", BYTE_LEVEL)
@settings(deadline=None)
@given(tokens=IDS)
def test_pieces_of_any_tokens_join_to_the_text(kind: str, tokens: list[int]) -> None:
    tokenizer = TOKENIZERS[kind]
    ended = [*tokens, *tokenizer.encode("a", add_special_tokens=False)]  # Nothing is left unfinished at the end.
    assert shown(tokenizer, [], ended) == tokenizer.decode(ended, skip_special_tokens=True)
    text = shown(tokenizer, [], tokens)
    held = tokenizer.decode(tokens, skip_special_tokens=True).removeprefix(text)
    assert held in ("", "\N{REPLACEMENT CHARACTER}")
    assert Decoder(tokenizer)(tokens) == text + held


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in BYTE_LEVEL])
@settings(deadline=None)
@given(tokens=IDS)
@example(tokens=[FIRST_BYTE + 0x0A, FIRST_BYTE + 0xE2, 260])
@example(tokens=[FIRST_BYTE + 0xF0, FIRST_BYTE + 0x9F, FIRST_BYTE + 0xF0, FIRST_BYTE + 0x9F, FIRST_BYTE + 0x91])
def test_pieces_of_any_tokens_with_byte_fallback_join_to_the_text(kind: str, tokens: list[int]) -> None:
    tokenizer = TOKENIZERS[kind]
    ended = [*tokens, *tokenizer.encode("a", add_special_tokens=False)]
    text = shown(tokenizer, [], ended)
    after = in_utf8(tokenizer, ended).decode("utf-8", "replace")
    assert text == after.removeprefix(" ")
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert text == tokenizer.decode(ended, skip_special_tokens=True)
    assert Decoder(tokenizer)(ended) == after


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in BYTE_LEVEL])
@settings(deadline=None)
@given(prompt=IDS, tokens=IDS)
def test_pieces_after_any_prompt_go_on_from_it(kind: str, prompt: list[int], tokens: list[int]) -> None:
    tokenizer = TOKENIZERS[kind]
    utf8 = codecs.getincrementaldecoder("utf-8")("replace")
    before = utf8.decode(in_utf8(tokenizer, prompt))
    first = not before and not utf8.getstate()[0] and not in_utf8(tokenizer, prompt)
    after = utf8.decode(in_utf8(tokenizer, tokens))
    assert shown(tokenizer, prompt, tokens) == (after.removeprefix(" ") if first else after)


def test_what_byte_fallback_spells_wrongly() -> None:
    tokenizer = byte_fallback()
    tokens = tokenizer.convert_tokens_to_ids(["<0x0A>", "<0xE2>", "a"])
    detokenizer = Detokenizer(tokenizer, tokenizer.encode("te", add_special_tokens=False))
    assert [detokenizer.add(token) for token in tokens] == ["\n", "", "\N{REPLACEMENT CHARACTER}a"]
    assert Decoder(tokenizer)(tokens) == "\n\N{REPLACEMENT CHARACTER}a"


def test_the_replacement_character_itself_is_not_held_back() -> None:
    for tokenizer in TOKENIZERS.values():
        tokens = tokenizer.encode("te\N{REPLACEMENT CHARACTER}", add_special_tokens=False)
        assert shown(tokenizer, [], tokens) == "te\N{REPLACEMENT CHARACTER}"


def test_tokens_that_no_tokenizer_knows_have_no_text() -> None:
    tokenizer = byte_level()
    assert shown(tokenizer, [5000], [5000, *tokenizer.encode("a")]) == "a"
    assert Decoder(tokenizer)([5000]) == ""
