"""Prompts: answers can be continued, and what does not fit the context is left out."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from falcon_runtime.errors import InvalidRequest, PromptTooLong
from falcon_runtime.text.encoder import Encoder
from falcon_runtime.text.prompt import ChatPrompt, encode_chat
from falcon_runtime.text.transcripts import Transcripts
from falcon_runtime.text.turns import Message

from ..small_models import small_tokenizer
from .conversations import ROOMY, SYSTEM, answer, assistant, bytewise, falcon3_like, spelled_out, user

# Continuing an answer


def test_an_assistants_last_message_is_continued(encoder: Encoder) -> None:
    asked = encode_chat(encoder, [SYSTEM, user("Hello")], ROOMY, 16)
    for begun in ("Once upon", "  a time\n", "x"):
        prompt = encode_chat(encoder, [SYSTEM, user("Hello"), assistant(begun)], ROOMY, 16)
        assert prompt.text == asked.text + begun
        assert encoder.tokenizer.decode(prompt.tokens) == spelled_out(encoder, prompt.text)


def test_a_continued_answer_is_one_answer_afterwards(encoder: Encoder) -> None:
    transcripts = Transcripts(encoder)
    prompt = encode_chat(encoder, [user("Hello")], ROOMY, 16, transcripts)
    first = bytewise(encoder, "in Paris ")
    begun = answer(encoder, transcripts, prompt, first)
    more = encode_chat(encoder, [user("Hello"), assistant(begun)], ROOMY, 16, transcripts)
    assert more.tokens == [*prompt.tokens, *first]
    second = bytewise(encoder, "and Rome\n")
    whole = begun + answer(encoder, transcripts, more, [*second, encoder.tokenizer.eos_token_id])
    following = encode_chat(encoder, [user("Hello"), assistant(whole), user("And?")], ROOMY, 16, transcripts)
    before = [*prompt.tokens, *first, *second, encoder.tokenizer.eos_token_id]
    assert following.tokens[: len(before)] == before


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "conversation is empty"),
        ([user(" \n")], "message is empty"),
        ([user("Hello"), assistant("")], "assistant's message at the end is empty"),
        ([user("Hello"), assistant(" \n")], "assistant's message at the end is empty"),
        ([SYSTEM, assistant("Once upon")], "There is no user message"),
        ([SYSTEM], "last message is the system's"),
        ([user("Hello"), SYSTEM], "last message is the system's"),
    ],
)
def test_conversations_with_nothing_to_answer(messages: list[Message], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        encode_chat(falcon3_like(), messages, ROOMY, 16)


# What does not fit the context. In this tokenizer a byte is a token, and a template's mark one more.

CONTEXT = 256
STEP = CONTEXT // 4


@cache
def small_encoder() -> Encoder:
    return Encoder(small_tokenizer())


def conversation(turns: int, size: int = 20) -> list[Message]:
    """`turns` turns of 2 * `size` tokens each, and a question."""
    pairs = [(user(f"{i:0{size - 1}}"), assistant(f"{i:0{size - 2}}")) for i in range(turns)]
    return [SYSTEM, *(message for pair in pairs for message in pair), user("last question")]


def fitted(messages: Sequence[Message], max_new_tokens: int = 1000, context: int = CONTEXT) -> ChatPrompt:
    prompt = encode_chat(small_encoder(), messages, context, max_new_tokens)
    return replace(prompt, text=spelled_out(small_encoder(), prompt.text))


def test_what_fits_is_left_alone() -> None:
    prompt = fitted(conversation(3))
    assert prompt.dropped_messages == 0
    assert len(prompt.tokens) <= CONTEXT - STEP


@pytest.mark.parametrize("max_new_tokens", [8, 1000])
def test_the_oldest_turns_are_left_out_in_steps(max_new_tokens: int) -> None:
    room = min(max_new_tokens, STEP)
    for turns in range(40):
        messages = conversation(turns)
        whole = fitted(messages, context=ROOMY)
        prompt = fitted(messages, max_new_tokens)
        kept = [SYSTEM, *messages[1 + prompt.dropped_messages :]]
        assert prompt.text == fitted(kept, context=ROOMY).text
        assert kept[1]["role"] == "user"
        assert len(prompt.tokens) + room <= CONTEXT
        excess = len(whole.tokens) + room - CONTEXT
        wanted = -(-excess // STEP) * STEP
        # At least so much, and not a turn more than it takes.
        dropped = len(whole.tokens) - len(prompt.tokens)
        assert wanted <= dropped < max(wanted, 0) + 40


def test_the_same_turns_stay_left_out_while_the_conversation_grows_by_a_quarter_of_the_context() -> None:
    prompts = [fitted(conversation(turns, size=5)) for turns in range(100)]
    changes = [i for i in range(1, 100) if prompts[i].dropped_messages != prompts[i - 1].dropped_messages]
    grown = [10 * (after - before) for before, after in pairwise(changes)]
    assert len(grown) > 5
    assert min(grown) >= STEP - 10  # A turn of 10 tokens may stand across the border.
    for i in set(range(1, 100)) - set(changes):
        opening = prompts[i - 1].text.removesuffix("<|user|>last question<|assistant|>")
        assert prompts[i].text.startswith(opening)


def test_the_last_question_and_what_follows_it_stay_even_where_they_take_the_room_for_the_answer() -> None:
    long = "x" * 200
    last = [SYSTEM, user(long)]
    for ending in ([], [assistant("yyyyy")]):
        prompt = fitted([*conversation(3), assistant("a"), user(long), *ending])
        assert prompt.text == fitted([*last, *ending], context=ROOMY).text
        assert prompt.dropped_messages == 8


def test_where_a_step_is_more_than_may_be_left_out_just_enough_is() -> None:
    # Four turns of 10 tokens, and a last question that takes most of what the answer leaves.
    messages = [*conversation(4, size=5)[:-1], user("x" * 137)]
    prompt = fitted(messages)
    assert prompt.dropped_messages == 4
    assert CONTEXT - STEP - 10 < len(prompt.tokens) <= CONTEXT - STEP


def test_what_never_fits_is_refused() -> None:
    with pytest.raises(PromptTooLong, match=r"256 tokens.*302.*Shorten"):
        fitted([user("Hello"), assistant("Hi"), user("x" * 300)])
    assert len(fitted([user("Hello"), assistant("Hi"), user("x" * 253)]).tokens) == CONTEXT - 1


def test_a_greeting_goes_first_and_system_messages_stay() -> None:
    greeting, reminder = assistant("Hello, how can I help you today?"), {"role": "system", "content": "Be kind."}
    messages = [greeting, user("x" * 90), assistant("y" * 20), reminder, user("z" * 100)]
    prompt = fitted(messages, max_new_tokens=8)
    assert prompt.text == "<|system|>Be kind.<|user|>" + "z" * 100 + "<|assistant|>"
    assert prompt.dropped_messages == 3
    assert fitted([greeting, user("x" * 160)], context=224).dropped_messages == 1


def test_long_conversations_are_tokenized_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    encode = Encoder.__call__

    def counted(encoder: Encoder, text: str) -> list[int]:
        nonlocal calls
        calls += 1
        return encode(encoder, text)

    monkeypatch.setattr(Encoder, "__call__", counted)
    assert encode_chat(small_encoder(), conversation(1000), CONTEXT, 16).dropped_messages > 1900
    assert calls <= 14


def test_what_is_left_out_does_not_hang_on_transcripts() -> None:
    encoder = falcon3_like()
    transcripts = Transcripts(encoder)
    messages: list[Message] = [user("Hello")]
    for _ in range(30):
        prompt = encode_chat(encoder, messages, CONTEXT, 16, transcripts)
        fresh = encode_chat(encoder, messages, CONTEXT, 16)
        assert (prompt.text, prompt.dropped_messages) == (fresh.text, fresh.dropped_messages)
        assert len(prompt.tokens) < CONTEXT
        said = answer(encoder, transcripts, prompt, bytewise(encoder, "in es in es ar.\n"))
        messages += [assistant(said), user("And?")]
