"""What people write is text, whatever it spells; and text has the tokens that transformers gives it."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from falcon_runtime.models.catalog import STARTER
from falcon_runtime.text.encoder import Encoder, any_of
from falcon_runtime.text.prompt import encode_text

from .vocabularies import CONTROLS, KINDS, byte_fallback, byte_level, metaspace_first

ENCODERS = {name: Encoder(kind()) for name, kind in KINDS.items()}
TEXTS = [
    "Plain text,  with two spaces\nand a line.",
    " at both ends \n",
    "مرحبًا بالعالم 👩‍👩‍👧‍👦 naïve café 你好 ﬁ ①",
    "a < b > c <| d |> </ e <think>ate</think>",
    "\n\n\tx",
]
SPELLED = st.lists(
    st.sampled_from([*CONTROLS, "<", "|", ">", "</", "s", "user", " ", "\n", "a", "te", "é", "▁"]), max_size=12
).map("".join)


@pytest.fixture(params=[*KINDS, "starter"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "starter":
        return starter(request.getfixturevalue("starter_models_dir") / STARTER.name)
    return ENCODERS[request.param]


@cache
def starter(folder: Path) -> Encoder:
    return Encoder(AutoTokenizer.from_pretrained(folder, local_files_only=True))


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("text", TEXTS)
def test_text_has_the_tokens_of_transformers(encoder: Encoder, text: str) -> None:
    assert encoder(text) == ids(encoder.tokenizer, text)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=50)
@given(text=st.text(max_size=30))
def test_any_text_has_the_tokens_of_transformers(kind: str, text: str) -> None:
    assume(not any(control in text for control in CONTROLS))  # Hypothesis also tries texts that it finds in the code.
    assert ENCODERS[kind](text) == ids(ENCODERS[kind].tokenizer, text)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=50)
@given(text=SPELLED)
@example(text="<s></s><|user|>")
@example(text="<s> <s>\n</s>")
def test_what_text_spells_is_no_control_token_and_what_is_sealed_is(kind: str, text: str) -> None:
    encoder = ENCODERS[kind]
    tokenizer = encoder.tokenizer
    tokens = encoder(text)
    assert encoder.control_ids.isdisjoint(tokens)
    assert spaced(tokenizer.decode(tokens)) == spaced(text)
    assert encoder(encoder.seal(text)) == ids(tokenizer, text)


def spaced(text: str) -> str:
    """What is the same for tokenizers that put a space before text, and spell spaces as "▁"."""
    return text.replace("▁", " ").lstrip(" ")


def test_control_tokens_that_the_starter_model_never_sees_in_text(starter_models_dir: Path) -> None:
    encoder = starter(starter_models_dir / STARTER.name)
    text = "<|im_start|>user\nHi<|im_end|>"
    assert encoder.tokenizer.decode(encoder(text)) == text
    assert encoder.control_ids.isdisjoint(encoder(text))
    assert encoder(encoder.seal(text)) == ids(encoder.tokenizer, text)


def test_the_vocabulary_itself_makes_no_control_token() -> None:
    """Unigram takes the likeliest pieces, and there "</s>" is one; so is what is "</s>" once it is normalized."""
    encoder = ENCODERS["unigram"]
    for text in ("a</s>te", "a＜/s＞te", "＜｜user｜＞"):
        tokens = encoder(text)
        assert encoder.control_ids.isdisjoint(tokens)
        assert encoder.tokenizer.decode(tokens) in ("a</s>te", "<|user|>")
    assert encoder("一") == ids(encoder.tokenizer, "一")


def test_a_normalizer_hides_no_control_token_of_a_template() -> None:
    tokenizer = byte_fallback(normalized=True)
    encoder = Encoder(tokenizer)
    # The normalizer makes "▁<s>" of "<s>", so that it is found only where a text or a word begins.
    assert encoder(encoder.seal("<s>ate </s>")) == ids(tokenizer, "<s>ate </s>")
    assert encoder.control_ids.isdisjoint(ids(tokenizer, "a</s><s>te")[1:])
    tokens = encoder(encoder.seal("a</s><s>te"))
    assert [id for id in tokens if id in encoder.control_ids] == [2, 1]
    assert tokenizer.decode(encoder("a</s><s>te")) == "a</s><s>te"


def test_tokens_that_are_not_special_come_of_their_spelling() -> None:
    encoder = ENCODERS["metaspace_first"]
    assert encoder.tokenizer.convert_tokens_to_ids("<think>") in encoder("te<think>te")


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_begins_as_the_tokenizer_says_and_never_ends_with_eos(kind: str) -> None:
    encoder = ENCODERS[kind]
    tokens = encode_text(encoder, "a tea</s>", 100)
    assert tokens == [*encoder.prefix, *encoder("a tea</s>")]
    reference = encoder.tokenizer.encode("a tea")
    if kind == "byte_level":  # Without anything before or after a text.
        assert encode_text(encoder, "a tea", 100) == reference
    else:
        assert encode_text(encoder, "a tea", 100) == reference[:-1]
        assert [reference[0], reference[-1]] == [encoder.tokenizer.bos_token_id, encoder.tokenizer.eos_token_id]


def test_an_engineer_may_have_asked_for_eos_in_the_configuration() -> None:
    tokenizer = byte_level()
    asked = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        bos_token="<|user|>",
        eos_token="<|end|>",
        add_bos_token=True,
        add_eos_token=True,
    )
    assert asked.encode("a")[-1] == asked.eos_token_id
    assert encode_text(Encoder(asked), "a", 100) == asked.encode("a")[:-1]


def test_half_surrogates_are_replaced() -> None:
    encoder = ENCODERS["byte_level"]
    assert encoder("Hi \ud83d") == encoder("Hi \N{REPLACEMENT CHARACTER}")
    assert encoder("\ud83d\ude00") == encoder("😀")


def test_the_longest_of_overlapping_control_tokens_is_found() -> None:
    words = ["<s>", "<sp>", "<sp>x", "ab<", "b", "(+)", "é"]
    find = any_of(words).findall
    assert find("<sp<s>><sp>xy<sp>ab<s>b(+)(é") == ["<s>", "<sp>x", "<sp>", "ab<", "b", "(+)", "é"]
    assert not any_of([]).findall("anything")
    assert not any_of([""]).findall("anything")


def test_seals_cannot_be_guessed_or_shown() -> None:
    one, other = Encoder(byte_level()), Encoder(byte_level())
    assert one.seal_mark != other.seal_mark
    assert other.control_ids.isdisjoint(other(one.seal("<|user|>")))
    assert one.tokenizer.decode(one(one.seal("<|user|>x"))) == "<|user|>x"


def test_the_model_of_the_tokenizer_is_shared_and_left_alone() -> None:
    tokenizer = metaspace_first()
    before, size = tokenizer.backend_tokenizer.to_str(), len(tokenizer)
    encoder = Encoder(tokenizer)
    encoder(encoder.seal("<s>te"))
    assert len(tokenizer) == size
    assert tokenizer.backend_tokenizer.to_str() == before


@settings(deadline=None, max_examples=20)
@given(names=st.lists(st.text("<>|abé 1", min_size=2, max_size=6), min_size=1, max_size=8, unique=True), data=st.data())
def test_control_tokens_of_any_name(names: list[str], data: st.DataObject) -> None:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    encoder = Encoder(tokenizer)
    text = data.draw(st.lists(st.sampled_from([*names, "<", ">", "a", "|", "é"]), max_size=6).map("".join))
    assert encoder.control_ids.isdisjoint(encoder(text))
    assert tokenizer.decode(encoder(text)) == text
    assert encoder(encoder.seal(text)) == ids(tokenizer, text)
