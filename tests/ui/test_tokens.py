"""Completions as tokens: extending, forking, and what the page shows of them."""

import math

from falcon_runtime.chunk import TokenLogprobs
from ui import tokens
from ui.streaming import Update
from ui.tokens import Completion

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
    forked = whole.forked(1, 6)
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
