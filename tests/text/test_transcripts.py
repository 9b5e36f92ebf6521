"""What one turn read and wrote is the beginning of the next."""

import threading
from collections.abc import Sequence

import pytest

from falcon_runtime.text import transcripts as transcripts_module
from falcon_runtime.text.encoder import Encoder
from falcon_runtime.text.prompt import encode_chat
from falcon_runtime.text.transcripts import MAX_TRANSCRIPTS, Transcripts
from falcon_runtime.text.turns import Message

from .conversations import (
    FALCON3_TEMPLATE,
    ROOMY,
    SYSTEM,
    answer,
    assistant,
    bytewise,
    canonical,
    falcon3_like,
    spelled_out,
    user,
)

PLAIN_ANSWERS = [
    "Paris.",
    "Two lines:\n\n- one\n- two",
    "مرحبًا 👋🏽 naïve 你好",
    "```python\nfor i in x:\n    print(i)\n```",
]
ODD_ANSWERS = [
    "  indented",
    "\nstarts a line",
    "\n\n",
    " ",
    ".",
    "ends a line\n",
    "ends in spaces   ",
    "\ttab\r\n\r\n",
    "half \N{REPLACEMENT CHARACTER} a character",
]


def shared(a: Sequence[int], b: Sequence[int]) -> int:
    """What the engine reuses of `a` for `b`."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@pytest.mark.parametrize("spell", [canonical, bytewise])
@pytest.mark.parametrize("system", [[], [SYSTEM]], ids=["", "system"])
@pytest.mark.parametrize("text", [*PLAIN_ANSWERS, *ODD_ANSWERS])
def test_every_turn_begins_with_all_that_the_last_one_read_and_wrote(
    encoder: Encoder, system: list[Message], text: str, spell: object
) -> None:
    transcripts = Transcripts(encoder)
    messages = [*system, user("What is the capital of France?")]
    for question in ("And of Italy?", "\nSay more.\n", " "):
        prompt = encode_chat(encoder, messages, ROOMY, 16, transcripts)
        spelled = spell(encoder, text)  # type: ignore[operator]
        said = answer(encoder, transcripts, prompt, [*spelled, encoder.tokenizer.eos_token_id])
        assert said == text
        messages = [*messages, assistant(said), user(f"{question}?")]
        following = encode_chat(encoder, messages, ROOMY, 16, transcripts)
        before = [*prompt.tokens, *spelled, encoder.tokenizer.eos_token_id]
        assert following.tokens[: len(before)] == before
        assert encoder.tokenizer.decode(following.tokens) == spelled_out(encoder, following.text)
        assert following.text == encode_chat(encoder, messages, ROOMY, 16).text


@pytest.mark.parametrize("text", PLAIN_ANSWERS)
def test_answers_spelled_as_the_tokenizer_would_need_no_transcript(encoder: Encoder, text: str) -> None:
    messages = [user("Hello")]
    prompt = encode_chat(encoder, messages, ROOMY, 16)
    following = encode_chat(encoder, [*messages, assistant(text), user("And then?")], ROOMY, 16)
    before = [*prompt.tokens, *canonical(encoder, text), encoder.tokenizer.eos_token_id]
    assert following.tokens[: len(before)] == before


@pytest.mark.parametrize("text", ODD_ANSWERS)
def test_answers_that_merge_with_what_stands_around_them_cost_the_answer_at_most(encoder: Encoder, text: str) -> None:
    prompt = encode_chat(encoder, [user("Hello")], ROOMY, 16)
    following = encode_chat(encoder, [user("Hello"), assistant(text), user("And then?")], ROOMY, 16)
    # The line end behind the assistant's mark may have become one token with the answer's beginning.
    assert shared(prompt.tokens, following.tokens) >= len(prompt.tokens) - 1


def test_without_a_transcript_another_spelling_is_read_again_from_where_it_differs() -> None:
    encoder = falcon3_like()
    prompt = encode_chat(encoder, [user("Hello")], ROOMY, 16)
    following = encode_chat(encoder, [user("Hello"), assistant("Paris"), user("And?")], ROOMY, 16)
    before = [*prompt.tokens, *bytewise(encoder, "Paris")]
    assert shared(before, following.tokens) == len(prompt.tokens) + 1  # "P", then "ar" instead of "a".


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(FALCON3_TEMPLATE.replace("m['content']", "m['content'].strip()"), id="strips"),
        pytest.param(FALCON3_TEMPLATE.replace("'<|assistant|>\n'", "'<|assistant|>\n<think>\n'"), id="thinks"),
        pytest.param(
            FALCON3_TEMPLATE.replace("m['content']", "m['content'].split('</think>')[-1]"), id="drops thoughts"
        ),
    ],
)
def test_templates_that_alter_answers_cost_reading_the_last_answer_again(template: str) -> None:
    encoder = falcon3_like(template)
    transcripts = Transcripts(encoder)
    messages = [SYSTEM, user("Hello")]
    for _ in range(3):
        prompt = encode_chat(encoder, messages, ROOMY, 16, transcripts)
        spelled = bytewise(encoder, " Let me see</think>\n\nHi there\n")
        messages = [*messages, assistant(answer(encoder, transcripts, prompt, spelled)), user("And?")]
        following = encode_chat(encoder, messages, ROOMY, 16, transcripts)
        assert encoder.tokenizer.decode(following.tokens) == spelled_out(encoder, following.text)
        until_answer = prompt.tokens[
            : -prompt.tokens[::-1].index(encoder.tokenizer.convert_tokens_to_ids("<|assistant|>"))
        ]
        assert shared([*prompt.tokens, *spelled], following.tokens) >= len(until_answer)


def test_an_answer_that_was_stopped_keeps_its_tokens() -> None:
    encoder = falcon3_like()
    transcripts = Transcripts(encoder)
    prompt = encode_chat(encoder, [user("Hello")], ROOMY, 16)
    spelled = bytewise(encoder, "in Paris as always")
    answer(encoder, transcripts, prompt, spelled)
    # A stop text or the visitor ended it: what was shown is shorter than what was written.
    messages = [user("Hello"), assistant("in Paris"), user("And?")]
    following = encode_chat(encoder, messages, ROOMY, 16, transcripts)
    assert shared([*prompt.tokens, *spelled], following.tokens) == len(prompt.tokens) + len("in Paris")


def test_half_a_character_and_what_follows_a_special_token_are_not_part_of_an_answer() -> None:
    encoder = falcon3_like()
    transcripts = Transcripts(encoder)
    prompt = encode_chat(encoder, [user("Hello")], ROOMY, 16)
    for tail in (bytewise(encoder, "👋")[:2], [encoder.tokenizer.eos_token_id, *bytewise(encoder, "es")]):
        said = answer(encoder, transcripts, prompt, [*bytewise(encoder, "Paris"), *tail])
        following = encode_chat(encoder, [user("Hello"), assistant(said), user("And?")], ROOMY, 16, transcripts)
        assert encoder.tokenizer.decode(following.tokens) == spelled_out(encoder, following.text)


def test_an_edited_answer_is_tokenized_afresh() -> None:
    encoder = falcon3_like()
    transcripts = Transcripts(encoder)
    prompt = encode_chat(encoder, [user("Hello")], ROOMY, 16)
    answer(encoder, transcripts, prompt, bytewise(encoder, "Paris"))
    for edited in ("Par", "Paris, of course", "paris"):
        messages = [user("Hello"), assistant(edited), user("And?")]
        fresh = encode_chat(encoder, messages, ROOMY, 16)
        following = encode_chat(encoder, messages, ROOMY, 16, transcripts)
        # "Par" ends between two of the answer's tokens: those are as good as any.
        if edited != "Par":
            assert following.tokens == fresh.tokens
        assert encoder.tokenizer.decode(following.tokens) == spelled_out(encoder, following.text)
        assert following.text == fresh.text


def test_transcripts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = falcon3_like()
    transcripts = Transcripts(encoder)
    for i in range(2 * MAX_TRANSCRIPTS):
        transcripts.begin(encoder.seal(f"<|user|>{i}"), [0])

    def is_kept(text: str) -> bool:
        return transcripts.encode(encoder.seal(text)) == [0]

    kept = [is_kept(f"<|user|>{i}") for i in range(2 * MAX_TRANSCRIPTS)]
    assert kept == [False] * MAX_TRANSCRIPTS + [True] * MAX_TRANSCRIPTS
    monkeypatch.setattr(transcripts_module, "MAX_CHARACTERS", 100)
    transcripts.begin("x" * 80, [0])
    assert is_kept("x" * 80)
    assert sum(is_kept(f"<|user|>{i}") for i in range(2 * MAX_TRANSCRIPTS)) <= 20 // len("<|user|>1")
    transcripts.begin("y" * 200, [0])
    assert is_kept("y" * 200), "the latest stays, whatever its size"
    assert not is_kept("x" * 80)


def test_transcripts_may_be_used_from_several_threads() -> None:
    encoder = falcon3_like()
    transcripts = Transcripts(encoder)
    wrong: list[str] = []

    def talk(visitor: int) -> None:
        messages: list[Message] = [user(f"I am {visitor}")]
        for _ in range(20):
            prompt = encode_chat(encoder, messages, ROOMY, 16, transcripts)
            messages += [
                assistant(answer(encoder, transcripts, prompt, bytewise(encoder, f"in {visitor}"))),
                user("And?"),
            ]
            if encoder.tokenizer.decode(prompt.tokens) != spelled_out(encoder, prompt.text):
                wrong.append(prompt.text)

    threads = [threading.Thread(target=talk, args=(visitor,)) for visitor in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
