"""Completions as tokens: extending, forking, and what the page shows of them."""

import math
import re
from html import unescape
from pathlib import Path

import pytest

from falcon_runtime.chunk import TokenLogprobs
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.text.tokenizer import Decoder, load_tokenizer
from ui import tokens
from ui.tokens import Completion
from ui.update import Update

WORDS = {1: "Once", 2: " upon", 3: " a", 4: " <b>", 5: "\n", 6: " time", 9: ""}


def decode(ids: list[int]) -> str:
    return "".join(WORDS[id] for id in ids)


def logprobs(*chosen: tuple[int, float]) -> tuple[TokenLogprobs, ...]:
    """Tokens with their probabilities, each beside one that is twice as likely."""
    return tuple(TokenLogprobs(id, math.log(p), ((6, math.log(2 * p)), (id, math.log(p)))) for id, p in chosen)


def update(prompt: tuple[int, ...], *chosen: tuple[int, float]) -> Update:
    return Update(prompt=prompt, logprobs=logprobs(*chosen), model="m")


def test_a_run_extends_what_it_began_from_once() -> None:
    begun = Completion("Once")
    last = update((1,), (2, 0.25), (3, 0.5))
    whole = begun.extended(last, decode)
    assert whole.text(decode) == "Once upon a"
    assert whole.ids == [1, 2, 3]
    assert whole.model == "m"
    assert whole.extended(last, decode) == whole
    assert begun.extended(Update(), decode) == begun


def test_fork_puts_an_alternative_in_a_tokens_place() -> None:
    whole = Completion("Once").extended(update((1,), (2, 0.25), (3, 0.5)), decode)
    forked = whole.forked(1, 6, decode)
    assert forked.text(decode) == "Once upon time"
    assert forked.tokens[-1].forced
    assert forked.tokens[-1].probability == 1
    further = forked.extended(update(tuple(forked.ids), (5, 0.5)), decode)
    assert further.ids == [1, 2, 6, 5]


def test_surprise_is_in_bits() -> None:
    whole = Completion("Once").extended(update((1,), (2, 0.25), (3, 0.5)), decode)
    assert [round(tokens.surprise(token), 6) for token in whole.tokens] == [2, 1]
    shown = tokens.view(whole)
    assert "1 tokens of prompt, 2 written. On average 1.50 bits of surprise, a perplexity of 2.83" in shown
    assert shown.count("<rect") == 2


def test_colours_follow_probability() -> None:
    whole = Completion().extended(update((1,), (2, 0.95), (3, 0.5), (5, 0.01)), decode)
    shown = tokens.view(whole)
    for shade, place in ((0, 0), (2, 1), (4, 2)):
        assert f'class="p{shade}" data-place="{place}"' in shown


def test_what_a_model_writes_is_text_and_no_html() -> None:
    whole = Completion("<script>").extended(update((1,), (4, 0.5)), decode)
    for shown in (tokens.view(whole), tokens.alternatives(whole, 0)):
        assert "<b>" not in shown.replace('<b class="word">', "")
        assert "<script>" not in shown
        assert "&lt;b&gt;" in shown


def test_an_end_cannot_be_forked_to() -> None:
    end = TokenLogprobs(2, -1, ((9, -0.5), (2, -1)))
    whole = Completion().extended(Update(prompt=(1,), logprobs=(end,)), decode)
    assert 'data-id="9" disabled' in tokens.alternatives(whole, 0)
    assert "end of text" in tokens.alternatives(whole, 0)


@pytest.fixture(scope="module")
def starter(starter_models_dir: Path) -> tuple[object, Decoder]:
    """The starter model's tokenizer, which has bytes where it knows no character, and its decoder."""
    folder = starter_models_dir / STARTER.name
    tokenizer = load_tokenizer(folder, read_manifest(folder))
    return tokenizer, Decoder(tokenizer)


def completed(starter: tuple[object, Decoder], text: str, upto: int | None = None) -> Completion:
    """A completion that is `text`, or its first tokens."""
    tokenizer, decode = starter
    ids = tokenizer.encode(text, add_special_tokens=False)[:upto]  # type: ignore[attr-defined]
    found = tuple(TokenLogprobs(id, math.log(0.5), ((id, math.log(0.5)), (7, -2.0))) for id in ids)
    return Completion("Given: ").extended(Update(prompt=(1,), logprobs=found), decode)


def chips(completion: Completion) -> list[str]:
    return [unescape(text) for text in re.findall(r'role="button".*?>(.*?)</span>', tokens.view(completion))]


@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ("ما هي عاصمة الإمارات؟ 123.", ["؟", "ص"]),
        ("مَدرَسة", ["مَ", "رَ"]),
        ("A falcon 🦅 flies", [" 🦅"]),
        ("👩\u200d👩\u200d👧 at home 👍🏽", ["👩\u200d👩\u200d👧"]),
        ("漢字とかな。", ["漢", "な"]),
        ("cafe\u0301", ["e\u0301"]),
    ],
)
def test_a_character_of_several_tokens_is_one_chip(
    starter: tuple[object, Decoder], text: str, characters: list[str]
) -> None:
    completion = completed(starter, text)
    shown = chips(completion)
    assert "".join(shown) == text
    assert len(shown) < len(completion.tokens)
    assert all(any(character in chip for chip in shown) for character in characters)
    assert tokens.view(completion).count("<rect") == len(completion.tokens)


def test_all_tokens_of_a_character_can_be_chosen_from(starter: tuple[object, Decoder]) -> None:
    completion = completed(starter, "🦅")
    assert len(completion.tokens) > 2
    for place in range(len(completion.tokens)):
        shown = tokens.alternatives(completion, place)
        for i in range(len(completion.tokens)):
            assert f'data-place="{i}" data-id="7"' in shown
        assert "🦅 is" in shown
    assert "part of a character" in shown
    assert 'class="p3 chosen" data-place="0"' in tokens.view(completion, 1)


def test_a_character_that_is_not_whole_yet_is_one_chip_and_no_text(starter: tuple[object, Decoder]) -> None:
    _, decode = starter
    completion = completed(starter, "🦅", upto=2)
    assert len(chips(completion)) == 1
    assert completion.text(decode) == "Given: "
    eagle = completed(starter, "🦅")
    forked = eagle.forked(1, 7, decode)
    assert len(forked.tokens) == 2
    assert forked.tokens[1].forced


def test_the_view_has_the_direction_of_its_text() -> None:
    whole = Completion("ما هي").extended(update((1,), (2, 0.5)), decode)
    assert '<p class="tokens" dir="auto">' in tokens.view(whole)
    assert "<button" not in tokens.view(whole)
