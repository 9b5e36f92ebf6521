"""The streaming detokenizer: whatever the tokens, the pieces join to the text and none shows half a character."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from falcon_runtime.tokenizer import Decoder, Detokenizer

from .conftest import small_tokenizer

TEXTS = [
    "Plain text,  with two spaces\nand a line.",
    "Family 👩‍👩‍👧‍👦, flag 🇦🇪, skin 👍🏽.",
    "مرحبًا بالعالم — كيف الحال؟",
    "你好，世界。日本語と한국어",
    "naïve café Ωμέγα",
]


def byte_level() -> PreTrainedTokenizerFast:
    """Every byte a token: every character but ASCII is split."""
    return small_tokenizer()


def byte_fallback() -> PreTrainedTokenizerFast:
    """A SentencePiece-like tokenizer that knows a few letters and spells the rest as bytes."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for piece in ["▁", "a", "t", "e", "▁t", "▁a", "te"]:
        vocabulary[piece] = len(vocabulary)
    merges = [("▁", "t"), ("▁", "a"), ("t", "e")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


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
