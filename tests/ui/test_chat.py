"""What Chat asks the model, and how messages are drawn."""

from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest

from falcon_runtime.errors import InvalidRequest
from ui.chat import answer_so_far, asked, changed, other_settings, turns
from ui.conversations import Conversation, Message
from ui.messages import render

AS_WRITTEN = (
    "def f(x):\n\tif x:\n\n        return 1   \n# not a heading\n1) __init__ and 2*3*4 &amp; <script>x</script>\n"
)


def event(**data: Any) -> Any:
    """What the browser says was done."""
    return SimpleNamespace(**{"text": "", "message": None, "attachments": [], "by": ""} | data)


@pytest.fixture
def talk() -> Conversation:
    """A question and its answer, with ids 0 and 1."""
    question = Message(id=0, parent=None, role="user", content=AS_WRITTEN)
    answer = Message(id=1, parent=0, role="assistant", content="Fine.")
    return Conversation(messages=(question, answer), current=1)


def asks(conversation: Conversation, default_system: str = "") -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in turns(conversation, default_system)]


def test_a_question_is_asked_character_for_character(talk: Conversation) -> None:
    talk = asked(talk, event(do="ask", text=AS_WRITTEN), "")
    assert asks(talk) == [("user", AS_WRITTEN), ("assistant", "Fine."), ("user", AS_WRITTEN)]
    assert answer_so_far(talk) == {"message": talk.current, "beginning": "", "text": "", "ended": False}


def test_the_answer_can_be_begun(talk: Conversation) -> None:
    assert asks(asked(talk, event(do="retry"), "Certainly: "))[-1] == ("assistant", "Certainly: ")
    assert asks(asked(talk, event(do="retry"), " \n"))[-1] == ("user", AS_WRITTEN)


def test_an_edited_question_and_a_retry_leave_the_earlier_ones(talk: Conversation) -> None:
    edited = asked(talk, event(do="edit", message=0, text="  Other"), "")
    assert asks(edited) == [("user", "  Other")]
    assert len(edited.versions(0)) == 2
    again = asked(talk, event(do="retry"), "")
    assert asks(again) == [("user", AS_WRITTEN)]
    assert len(again.versions(1)) == 2


def test_continuing_goes_on_in_the_same_answer_or_answers_the_question(talk: Conversation) -> None:
    assert asked(talk, event(do="continue"), "Certainly: ") == talk
    assert asks(talk)[-1] == ("assistant", "Fine.")
    unanswered = asked(talk.back_to(0), event(do="continue"), "Certainly: ")
    assert asks(unanswered) == [("user", AS_WRITTEN)]


def test_questions_that_were_not_answered_stay_messages_of_their_own(talk: Conversation) -> None:
    talk = asked(talk.back_to(0), event(do="ask", text="And?"), "")
    assert asks(talk) == [("user", AS_WRITTEN), ("user", "And?")]


def test_there_is_something_to_answer() -> None:
    with pytest.raises(InvalidRequest, match="no message to answer"):
        turns(Conversation(), "")


@pytest.mark.parametrize(
    ("system", "default", "expected"),
    [(None, "Be kind.", "Be kind."), ("", "Be kind.", None), ("Be brief.", "Be kind.", "Be brief."), (None, "", None)],
)
def test_the_models_own_system_prompt_until_another_is_set(
    talk: Conversation, system: str | None, default: str, expected: str | None
) -> None:
    first = asks(talk.model_copy(update={"system": system}), default)[0]
    assert first == (("system", expected) if expected else ("user", AS_WRITTEN))


def test_half_a_character_becomes_what_stands_for_it() -> None:
    assert asks(asked(Conversation(), event(do="ask", text="Hi \ud83d"), "\ude00")) == [
        ("user", "Hi \ufffd"),
        ("assistant", "\ufffd"),
    ]


def test_what_needs_no_answer(talk: Conversation) -> None:
    assert changed(talk, event(do="undo")).messages == ()
    assert changed(talk, event(do="clear")).model_dump() == Conversation(id=talk.id).model_dump()
    assert changed(talk, event(do="rate", message=1, feedback="Like")).message(1).feedback == "Like"
    again = asked(talk, event(do="retry"), "")
    assert changed(again, event(do="show", message=1)).current == 1
    assert changed(Conversation(id="a"), event(do="undo")) == Conversation(id="a")


class Elements(HTMLParser):
    """The tags of a page, and the text of its bubbles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_message_is_drawn_as_it_was_written(talk: Conversation) -> None:
    drawn = Elements(render(talk.path[:1], talk, []))
    assert drawn.text == AS_WRITTEN
    assert {tag for tag, _ in drawn.tags} <= {"article", "div", "button", "svg", "path"}
    labels = [attributes["aria-label"] for tag, attributes in drawn.tags if tag == "button"]
    assert labels == ["Copy", "Edit", "Undo"]


def test_an_answer_is_drawn_with_its_rating_and_its_versions(talk: Conversation) -> None:
    talk = changed(asked(talk, event(do="retry"), "Hm."), event(do="show", message=1))
    talk = changed(talk, event(do="rate", message=1, feedback="Like"))
    buttons = [attributes for tag, attributes in Elements(render(talk.path, talk, [])).tags if tag == "button"]
    pressed = {button["aria-label"]: button["aria-pressed"] for button in buttons if "aria-pressed" in button}
    assert pressed == {"Like": "true", "Dislike": "false", "Read aloud": "false"}
    earlier, later = (button for button in buttons if "version" in (button["aria-label"] or ""))
    assert (earlier["aria-label"], "disabled" in earlier) == ("Answer 1: earlier version", True)
    assert later["data-version"] == str(talk.messages[-1].id)


def test_each_message_offers_what_can_be_done_with_it(talk: Conversation) -> None:
    def offered(talk: Conversation) -> list[list[str | None]]:
        rows = render(talk.path, talk, []).split("<article")[1:]
        return [[attributes["data-do"] for tag, attributes in Elements(row).tags if tag == "button"] for row in rows]

    earlier = ["copy", "again", "choose", "fork", "speak", "like", "dislike"]
    last = [*earlier[:3], "continue", *earlier[3:]]
    assert offered(talk) == [["copy", "edit", "undo"], last]
    more = talk.add("user", "And?").add("assistant", "No.")
    assert offered(more) == [["copy", "edit"], earlier, ["copy", "edit", "undo"], last]
    assert offered(talk.add("user", "And?"))[2] == ["copy", "edit", "undo", "again"]


def test_what_is_attached_comes_before_the_message_and_stays_with_it() -> None:
    file = {"name": "notes <1>.txt", "text": "Falcons\nfly.", "tokens": 5}
    talk = asked(Conversation(), event(do="ask", text="Who?", attachments=[file]), "")
    told = "notes <1>.txt:\n\nFalcons\nfly.\n\nWho?"
    assert asks(talk) == [("user", told)]
    drawn = render(talk.path[:1], talk, [])
    assert "notes &lt;1&gt;.txt · 5 tokens" in drawn
    edited = asked(talk, event(do="edit", message=talk.messages[0].id, text="Where?"), "")
    assert asks(edited) == [("user", told.replace("Who", "Where"))]
    alone = asked(Conversation(), event(do="ask", text="", attachments=[file]), "")
    assert asks(alone) == [("user", "notes <1>.txt:\n\nFalcons\nfly.")]


def test_another_model_or_temperature_is_told_with_its_answer(talk: Conversation) -> None:
    again = asked(talk, event(do="retry", message=1, by="Temperature 1.2"), "")
    assert len(again.versions(1)) == 2
    assert "Temperature 1.2" in render(again.path, again, [])
    assert other_settings({"temperature": 1.2, "model": None}) == {"temperature": 1.2}
    assert other_settings({"temperature": None, "model": "other"}) == {}


def test_an_empty_conversation_offers_examples() -> None:
    drawn = render([], Conversation(), ["Why <b>?"])
    assert "Why &lt;b&gt;?" in drawn
    assert "Ask anything" in drawn
