"""The tree of a conversation's messages, the list of conversations, and what is made of files edited by hand."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_runtime.errors import InvalidRequest
from ui.conversations import (
    MAX_CONVERSATIONS,
    MAX_FILE_BYTES,
    Conversation,
    Conversations,
    Message,
    Role,
    check_tree,
    from_json,
    load,
    to_json,
    to_markdown,
)


def contents(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.path]


@pytest.fixture
def talk() -> Conversation:
    """Two questions, with ids 0 and 2, and their answers, 1 and 3."""
    talk = Conversation(system="Be brief.")
    for question, answer in (("Why is the sky blue?", "Scattering."), ("And red?", "More of it.")):
        talk = talk.add("user", question).add("assistant", answer)
    return talk


def test_another_answer_stands_beside_the_first_one(talk: Conversation) -> None:
    again = talk.back_to(2).add("assistant", "A longer way through air.")
    assert contents(again) == ["Why is the sky blue?", "Scattering.", "And red?", "A longer way through air."]
    assert again.versions(3) == again.versions(4) == [3, 4]
    assert contents(again.show(3)) == contents(talk)


def test_an_edited_question_keeps_what_followed_the_earlier_one(talk: Conversation) -> None:
    edited = talk.revise(0, "Why is grass green?")
    assert contents(edited) == ["Why is grass green?"]
    assert edited.versions(0) == [0, 4]
    assert contents(edited.show(0)) == contents(talk)


def test_showing_a_message_goes_on_with_the_newest_below_it(talk: Conversation) -> None:
    talk = talk.revise(2, "And green?").add("assistant", "Never.").back_to(None)
    assert contents(talk) == []
    assert contents(talk.show(0)) == ["Why is the sky blue?", "Scattering.", "And green?", "Never."]
    assert talk.show(2).current == 3


def test_the_first_messages_are_versions_of_each_other(talk: Conversation) -> None:
    assert talk.back_to(None).add("user", "Hello").versions(0) == [0, 4]


def test_removing_a_message_removes_what_follows_it(talk: Conversation) -> None:
    talk = talk.revise(2, "And green?")
    removed = talk.remove(2)
    assert [message.id for message in removed.messages] == [0, 1, 4]
    assert removed.current == 1
    assert talk.remove(0).messages == ()
    assert talk.remove(0).current is None


def test_content_and_rating_change_in_place(talk: Conversation) -> None:
    changed = talk.replace(3, "Dust.").rate(3, "Dislike")
    assert changed.message(3) == Message(id=3, parent=2, role="assistant", content="Dust.", feedback="Dislike")
    assert changed.rate(3, None).message(3).feedback is None
    assert talk.message(3).content == "More of it."


def test_a_message_that_is_gone_is_an_error(talk: Conversation) -> None:
    with pytest.raises(InvalidRequest, match="no longer"):
        talk.replace(9, "Too late")


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


def test_beginning_reopens_an_empty_conversation(talk: Conversation) -> None:
    first = Conversations.new()
    assert first.begin() == first
    begun = first.with_shown(talk).begin()
    assert [item.title for item in begun.items] == ["New conversation", "Why is the sky blue?"]
    assert begun.shown.is_empty
    assert begun.select(talk.id).begin() == begun


def test_deleting_shows_the_next_one_and_leaves_one(talk: Conversation) -> None:
    one, two, three = Conversations.new().with_shown(talk).begin(), Conversation(id="b"), Conversation(id="c")
    many = one.include(two).include(three)
    ids = [item.id for item in many.items]
    assert many.delete(ids[0]).open == ids[1]
    assert many.select(ids[3]).delete(ids[3]).open == ids[2]
    assert many.delete(ids[1]).open == ids[0]
    last = Conversations.new().with_shown(talk)
    assert last.delete(last.open).shown.is_empty


def test_the_oldest_conversations_leave(talk: Conversation) -> None:
    many = Conversations.new()
    for i in range(MAX_CONVERSATIONS + 5):
        many = many.with_shown(many.shown.add("user", str(i))).begin()
    assert len(many.items) == MAX_CONVERSATIONS
    assert many.shown == many.items[0]
    assert load(many.model_dump(mode="json")) == many


def test_what_the_browser_cannot_keep_leaves_oldest_first() -> None:
    conversations = Conversations.new()
    for i in range(8):
        conversations = conversations.include(Conversation(system=f"{i}" * 200_000))
    assert [item.system[0] for item in conversations.items] == ["7", "6", "5", "4", "3", "2", "1"]
    oldest = conversations.select(conversations.items[-1].id)
    grown = oldest.with_shown(oldest.shown.model_copy(update={"system": "1" * 400_000}))
    assert [item.system[0] for item in grown.items] == ["7", "6", "5", "4", "3", "1"]
    assert grown.shown.system[0] == "1"


def test_what_the_browser_kept_comes_back(talk: Conversation) -> None:
    kept = Conversations.new().with_shown(talk.rate(1, "Like").revise(2, "And green?")).begin()
    assert load(json.loads(json.dumps(kept.model_dump(mode="json")))) == kept


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
    kept = {"items": [{"id": "a", "messages": messages, "current": current}], "open": "a"}
    assert load(kept).shown.is_empty


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        [],
        {},
        {"items": [], "open": ""},
        {"items": [{"id": "a"}], "open": "b"},
        {"items": [{"id": "a"}, {"id": "a"}], "open": "a"},
        {"items": [{"id": "a", "unknown": 1}], "open": "a"},
        {"items": [{"id": "a", "messages": [{"id": 0, "parent": None, "role": "root", "content": ""}]}], "open": "a"},
    ],
)
def test_unreadable_storage_gives_an_empty_conversation(data: object) -> None:
    loaded = load(data)
    assert len(loaded.items) == 1
    assert loaded.shown.is_empty


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
        (" " * (MAX_FILE_BYTES + 1), "500,001 bytes"),
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
    assert contents(from_json(json.dumps(turns))) == ["Hi", "Hello"]


def test_half_a_character_can_be_written_again() -> None:
    read = from_json('[{"role": "user", "content": "half \\ud83e"}]')
    assert contents(from_json(to_json(read).encode())) == ["half \ufffd"]


def test_markdown_holds_the_path(talk: Conversation) -> None:
    talk = talk.revise(2, "And green?").rate(1, "Like").model_copy(update={"system": "Be brief.\n\nBe kind."})
    assert to_markdown(talk) == (
        "# Why is the sky blue?\n\n> Be brief.\n>\n> Be kind.\n\n**You**\n\nWhy is the sky blue?\n\n"
        "**Model** (liked)\n\nScattering.\n\n**You**\n\nAnd green?\n"
    )


operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "replace", "revise", "back_to", "remove", "show", "rate", "begin again"]),
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
            case "replace" | "revise":
                conversation = getattr(conversation, name)(id, text)
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
