"""Prompts: what one turn read and wrote is the beginning of the next, answers can be continued, and what does not fit
the context is left out."""

import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from falcon_runtime.chunk import Stats
from falcon_runtime.errors import InvalidRequest, PromptTooLong
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.text import transcripts as transcripts_module
from falcon_runtime.text.encoder import CLOSE, Encoder
from falcon_runtime.text.prompt import ChatPrompt, encode_chat
from falcon_runtime.text.tokenizer import Detokenizer
from falcon_runtime.text.transcripts import MAX_TRANSCRIPTS, Transcripts
from falcon_runtime.text.turns import Message
from ui import stats as stats_line
from ui.streaming import Update

from ..small_models import small_tokenizer

ROOMY = 100_000
SYSTEM: Message = {"role": "system", "content": "You answer in one sentence."}
FALCON3_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
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


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


@cache
def falcon3_like(template: str = FALCON3_TEMPLATE) -> Encoder:
    """Falcon3's special tokens over a small BPE: bytes, and merges that also join line ends and spaces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    newline, space = "Ċ", "Ġ"
    merges = [(newline, newline), (space, space), (newline, space), ("i", "n"), ("e", "s"), (".", newline), ("a", "r")]
    vocabulary = {piece: i for i, piece in enumerate([*alphabet, *(a + b for a, b in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", chat_template=template)
    return Encoder(fast)


@pytest.fixture(params=["starter", "falcon3"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "falcon3":
        return falcon3_like()
    return starter(request.getfixturevalue("starter_models_dir") / STARTER.name)


@cache
def starter(folder: Path) -> Encoder:
    return Encoder(AutoTokenizer.from_pretrained(folder, local_files_only=True))


def bytewise(encoder: Encoder, text: str) -> list[int]:
    """A spelling that no tokenizer would choose: every byte its own token."""
    ((characters, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return encoder.tokenizer.convert_tokens_to_ids(list(characters))


def canonical(encoder: Encoder, text: str) -> list[int]:
    return encoder.tokenizer.encode(text, add_special_tokens=False)


def spelled_out(encoder: Encoder, text: str) -> str:
    """A rendered text with its control tokens instead of their seals."""
    seal = re.compile(f"{re.escape(encoder.seal_mark)}(\\d+){CLOSE}")
    return seal.sub(lambda match: encoder.tokenizer.convert_ids_to_tokens(int(match[1])), text)


def answer(encoder: Encoder, transcripts: Transcripts, prompt: ChatPrompt, tokens: Sequence[int]) -> str:
    """The text of an answer that the model spells as `tokens`, recorded as the runtime does it."""
    detokenizer, record = Detokenizer(encoder.tokenizer, prompt.tokens), transcripts.begin(prompt.text, prompt.tokens)
    text = ""
    for token in tokens:
        piece = detokenizer.add(token)
        record(token, piece)
        text += piece
    return text


def shared(a: Sequence[int], b: Sequence[int]) -> int:
    """What the engine reuses of `a` for `b`."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


# What one turn read and wrote


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


def test_the_page_says_what_was_left_out_and_which_limit_ended_an_answer() -> None:
    stats = Stats(prompt_tokens=200, prefilled_tokens=200, generated_tokens=56, context=CONTEXT, dropped_messages=4)
    full = stats_line.line(Update(stats=stats, finish_reason="length"))
    assert "the 4 oldest messages were left out" in full
    assert "context is full" in full
    short = stats_line.line(
        Update(stats=replace(stats, generated_tokens=8, dropped_messages=1), finish_reason="length")
    )
    assert "the 1 oldest message was left out" in short
    assert "Stopped at the length limit" in short
    assert "left out" not in stats_line.line(Update(stats=replace(stats, dropped_messages=0)))


def test_the_page_says_how_many_drafted_tokens_were_accepted() -> None:
    stats = Stats(prompt_tokens=20, prefilled_tokens=20, generated_tokens=56, drafted_tokens=52, accepted_tokens=34)
    assert "Drafted <b>52</b>, accepted <b>34</b>" in stats_line.line(Update(stats=stats))
    assert "Drafted" not in stats_line.line(Update(stats=replace(stats, drafted_tokens=0, accepted_tokens=0)))
    by_both = replace(stats, draft_model="<Small>", drafted_by_model=40, accepted_by_model=30)
    line = stats_line.line(Update(stats=by_both))
    assert "Drafted <b>12</b>, accepted <b>4</b>" in line
    assert "&lt;Small&gt; drafted <b>40</b>, accepted <b>30</b>" in line
