"""The tree of a conversation's messages, and what is made of files and of storage edited by hand."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from falcon_runtime.errors import InvalidRequest
from ui.conversations import (
    MAX_FILE_BYTES,
    MAX_ID,
    Conversation,
    Message,
    Role,
    check_tree,
    dump,
    from_json,
    load,
    to_json,
    to_markdown,
)

AS_WRITTEN = (
    "def f(x):\n\tif x:\n\n        return 1   \n# not a heading\n1) __init__ and 2*3*4\n```\n<script>x</script>\n"
)


def contents(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.path]


@pytest.fixture
def talk() -> Conversation:
    """Two questions, with ids 0 and 2, and their answers, 1 and 3."""
    contents = ("Why is the sky blue?", "Scattering.", "And red?", "More of it.")
    roles: tuple[Role, ...] = ("user", "assistant", "user", "assistant")
    messages = [
        Message(id=i, parent=i - 1 if i else None, role=role, content=content)
        for i, (role, content) in enumerate(zip(roles, contents, strict=True))
    ]
    return Conversation(system="Be brief.", messages=tuple(messages), current=3)


def test_another_answer_stands_beside_the_first_one(talk: Conversation) -> None:
    again = talk.back_to(2).add("assistant", "A longer way through air.")
    assert contents(again) == ["Why is the sky blue?", "Scattering.", "And red?", "A longer way through air."]
    assert again.versions(3) == [3, again.current]
    assert contents(again.show(3)) == contents(talk)


def test_an_edited_question_keeps_what_followed_the_earlier_one(talk: Conversation) -> None:
    edited = talk.revise(0, "Why is grass green?")
    assert contents(edited) == ["Why is grass green?"]
    assert edited.versions(0) == [0, edited.current]
    assert contents(edited.show(0)) == contents(talk)


def test_showing_a_message_goes_on_with_the_newest_below_it(talk: Conversation) -> None:
    talk = talk.revise(2, "And green?").add("assistant", "Never.").back_to(None)
    assert contents(talk) == []
    assert contents(talk.show(0)) == ["Why is the sky blue?", "Scattering.", "And green?", "Never."]
    assert talk.show(2).current == 3


def test_the_first_messages_are_versions_of_each_other(talk: Conversation) -> None:
    talk = talk.back_to(None).add("user", "Hello")
    assert talk.versions(0) == [0, talk.current]


def test_removing_a_message_removes_what_follows_it(talk: Conversation) -> None:
    talk = talk.revise(2, "And green?")
    removed = talk.remove(2)
    assert [message.content for message in removed.messages] == ["Why is the sky blue?", "Scattering.", "And green?"]
    assert removed.current == 1
    assert talk.remove(0).messages == ()
    assert talk.remove(0).current is None


def test_a_rating_changes_in_place(talk: Conversation) -> None:
    rated = talk.rate(3, "Dislike")
    assert rated.message(3) == Message(id=3, parent=2, role="assistant", content="More of it.", feedback="Dislike")
    assert rated.rate(3, None) == talk


def test_two_tabs_give_their_messages_different_ids(talk: Conversation) -> None:
    ids = {talk.add("user", "Hi").current for _ in range(100)}
    assert len(ids) == 100
    assert all(id is not None and 0 <= id <= MAX_ID for id in ids)


def test_the_last_question_is_the_one_that_is_shown(talk: Conversation) -> None:
    assert talk.last_question == talk.message(2)
    assert talk.back_to(1).last_question == talk.message(0)
    assert Conversation().last_question is None


def test_a_message_that_is_gone_is_an_error(talk: Conversation) -> None:
    with pytest.raises(InvalidRequest, match="no longer"):
        talk.rate(9, "Like")


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("", "New conversation"),
        ("Why is\n the sky  blue?", "Why is the sky blue?"),
        ("a" * 40, "a" * 40),
        ("a" * 41, "a" * 39 + "…"),
        ("Explain photosynthesis to a ten-year-old child, please", "Explain photosynthesis to a…"),
        ("Explain photosynthesis to a curious child", "Explain photosynthesis to a curious…"),
    ],
)
def test_the_title_is_the_beginning_of_the_first_question(question: str, title: str) -> None:
    conversation = Conversation().add("user", question).add("assistant", "Answer").add("user", "Another")
    assert conversation.title == title
    assert Conversation().title == "New conversation"


def test_what_the_browser_kept_comes_back(talk: Conversation) -> None:
    kept = talk.rate(1, "Like").revise(2, "And green?")
    assert json.loads(dump(kept))["title"] == "Why is the sky blue?"
    assert load(dump(kept)) == kept


def broken_trees() -> list[tuple[str, list[dict[str, Any]], int | None]]:
    def message(id: int, parent: int | None) -> dict[str, Any]:
        return {"id": id, "parent": parent, "role": "user", "content": "x"}

    return [
        ("same id", [message(0, None), message(0, None)], 0),
        ("not there", [message(0, 7)], 0),
        ("follows itself", [message(0, 0)], 0),
        ("follows itself", [message(0, None), message(1, 2), message(2, 1)], 0),
        ("not there", [message(0, None)], 3),
    ]


@pytest.mark.parametrize(("problem", "messages", "current"), broken_trees())
def test_broken_trees_are_refused(problem: str, messages: Sequence[dict[str, Any]], current: int | None) -> None:
    file = {"format": "falcon-conversation", "version": 1, "messages": messages, "current": current}
    with pytest.raises(InvalidRequest, match=problem):
        from_json(json.dumps(file))
    assert load(json.dumps({"id": "a", "messages": messages, "current": current})).messages == ()


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        [],
        {},
        {"id": ""},
        {"id": "a", "unknown": 1},
        {"id": "a", "system": 3},
        {"id": "a", "messages": [{"id": 0, "parent": None, "role": "root", "content": ""}]},
    ],
)
def test_unreadable_storage_gives_an_empty_conversation(data: object) -> None:
    assert load("{").messages == load("").messages == ()
    loaded = load(json.dumps(data))
    assert loaded.id
    assert (loaded.system, loaded.messages) == (None, ())


def test_a_file_holds_the_tree_and_the_ratings(talk: Conversation) -> None:
    talk = talk.revise(2, "Grün? 🦅").rate(1, "Like")
    read = from_json(to_json(talk).encode())
    assert read.id != talk.id
    assert read.model_copy(update={"id": talk.id}) == talk
    assert "Grün? 🦅" in to_json(talk)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        (b"\xff\xff\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5_000, "not JSON"),
        ("3", "no conversation"),
        ('{"messages": []}', "no conversation"),
        ('{"format": "falcon-conversation", "version": 2}', "version 2"),
        ('{"format": "falcon-conversation", "version": 1, "messages": 3}', "damaged: messages: "),
        ('[{"role": "user"}]', "role and a content"),
        ('[{"role": "tool", "content": "x"}]', r"damaged: messages\.0\.role: "),
        (" " * (MAX_FILE_BYTES + 1), "5,000,001 bytes"),
    ],
)
def test_a_file_that_is_no_conversation_says_why(text: str | bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        from_json(text)


def test_messages_of_openais_api_become_a_conversation() -> None:
    system = {"role": "system", "content": "Be brief."}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    read = from_json(json.dumps([system, *turns]))
    assert read.system == "Be brief."
    assert [(message.role, message.content) for message in read.path] == [("user", "Hi"), ("assistant", "Hello")]
    without = from_json(json.dumps(turns))
    assert contents(without) == ["Hi", "Hello"]
    assert without.system is None, "the model's own"


def test_half_a_character_can_be_written_again() -> None:
    read = from_json('[{"role": "user", "content": "half \\ud83e"}]')
    assert contents(from_json(to_json(read).encode())) == ["half \ufffd"]


def test_markdown_holds_the_path(talk: Conversation) -> None:
    talk = talk.revise(2, "And green?").rate(1, "Like").model_copy(update={"system": "Be brief.\n\nBe kind."})
    assert to_markdown(talk) == (
        "# Why is the sky blue?\n\n**System prompt**\n\n```text\nBe brief.\n\nBe kind.\n```\n\n"
        "**You**\n\n```text\nWhy is the sky blue?\n```\n\n"
        "**Model** (liked)\n\nScattering.\n\n**You**\n\n```text\nAnd green?\n```\n"
    )


@given(st.text(alphabet=st.sampled_from("ab`~#*_<>&\\ \t\n漢"), max_size=40))
@example(AS_WRITTEN)
@example("*")
def test_markdown_shows_what_a_person_wrote_as_it_was_written(text: str) -> None:
    parsed = MarkdownIt().parse(to_markdown(Conversation().add("user", text).add("assistant", "*An* answer.")))
    assert [token.content for token in parsed if token.type == "fence"] == [f"{text}\n"]
    heading = next(token for token in parsed if token.type == "inline")
    title = Conversation().add("user", text).title
    assert "".join(child.content for child in heading.children or []) == title


def test_files_keep_every_character(talk: Conversation) -> None:
    talk = talk.add("user", AS_WRITTEN).add("assistant", "all:\n\tgcc a.c\n- a\n  - b\n    - c\n")
    assert contents(from_json(to_json(talk).encode())) == contents(talk)


def test_an_export_of_an_earlier_page_is_read() -> None:
    messages = [
        {"id": 0, "parent": None, "role": "user", "content": "Hi", "feedback": None},
        {"id": 1, "parent": 0, "role": "assistant", "content": "Hello", "feedback": "Like"},
    ]
    file = {"format": "falcon-conversation", "version": 1, "system": "", "messages": messages, "current": 1}
    read = from_json(json.dumps(file))
    assert (read.system, contents(read)) == ("", ["Hi", "Hello"])


operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "revise", "back_to", "remove", "show", "rate", "begin again"]),
        st.integers(0, 20),
        st.text(max_size=8),
    ),
    max_size=30,
)


def after(operations: Sequence[tuple[str, int, str]]) -> Conversation:
    """A conversation that these were done to, each to one of the messages that there were."""
    conversation = Conversation()
    for name, number, text in operations:
        role: Role = "user" if number % 2 else "assistant"
        if name == "add" or not conversation.messages:
            conversation = conversation.add(role, text)
            continue
        id = conversation.messages[number % len(conversation.messages)].id
        match name:
            case "begin again":
                conversation = conversation.back_to(None)
            case "rate":
                conversation = conversation.rate(id, "Like")
            case "revise":
                conversation = conversation.revise(id, text)
            case _:
                conversation = getattr(conversation, name)(id)
    return conversation


@given(operations)
def test_whatever_is_done_leaves_a_tree_that_a_file_can_hold(operations: Sequence[tuple[str, int, str]]) -> None:
    conversation = after(operations)
    check_tree(conversation.messages, conversation.current)
    assert all(message.id in conversation.versions(message.id) for message in conversation.messages)
    assert from_json(to_json(conversation)).path == conversation.path
    for message in conversation.messages:  # Whatever was written can be shown again.
        assert message in conversation.show(message.id).path
