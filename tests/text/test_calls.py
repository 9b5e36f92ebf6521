"""Calls of functions, told from words as both come."""

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falcon_runtime.text.call_form import ALONE, HERMES, CallForm
from falcon_runtime.text.calls import Calling, CallReader, Held, Part

NAMES = ("add", "get_weather")
ADD = '{"name": "add", "arguments": {"a": 1}}'
TAGGED = f"<tool_call>\n{ADD}\n</tool_call>"
ODD = r'{"text": "}</tool_call> \"\\", "list": [1, {"x": null}]}'
LLAMA3 = CallForm('{"name": "', '", "parameters": ', None, "}")
CONTROL = CallForm('[CALLS] [{"name": "', '", "arguments": ', '}, {"name": "', "}]", {"[CALLS]": 7})
FORMS = {"hermes": HERMES, "llama3": LLAMA3, "control": CONTROL}

Calls = list[tuple[str, str, bool]]


def read(pieces: Sequence[str], form: CallForm = HERMES, held: Held = "free") -> tuple[str, Calls]:
    """The words of an answer, and each call's name, its arguments and whether they are whole."""
    reader = CallReader(Calling(NAMES, form, held))
    parts = [part for piece in pieces for part in reader.add(piece)] + reader.end()
    assert "".join(part.text for part in parts if part.call is None) == reader.content
    for number, call in enumerate(reader.calls):
        first, *rest = (part for part in parts if part.call == number)
        assert first == Part("", number, begins=True)
        assert "".join(part.text for part in rest) == call.arguments
        assert not any(part.begins for part in rest)
    return reader.content, [(call.name, call.arguments, call.whole) for call in reader.calls]


def whole(*calls: tuple[str, str]) -> Calls:
    return [(name, arguments, True) for name, arguments in calls]


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (TAGGED, "", whole(("add", '{"a": 1}'))),
        (f"I add.\n\n{TAGGED}\n", "I add.", whole(("add", '{"a": 1}'))),
        (f"{TAGGED}\n{TAGGED}", "", whole(("add", '{"a": 1}'), ("add", '{"a": 1}'))),
        (f"One {TAGGED} two {TAGGED} three.", "One two three.", whole(("add", '{"a": 1}'), ("add", '{"a": 1}'))),
        (f"<tool_call>[{ADD},\n {ADD}]</tool_call>", "", whole(("add", '{"a": 1}'), ("add", '{"a": 1}'))),
        (f"<tool_call>{ADD}\n{ADD}</tool_call>", "", whole(("add", '{"a": 1}'), ("add", '{"a": 1}'))),
        (f'<tool_call>{{"arguments": {ODD}, "name": "add"}}</tool_call>', "", whole(("add", ODD))),
        (f'<tool_call>{{"name": "get_weather", "parameters": {ODD}}}</tool_call>', "", whole(("get_weather", ODD))),
        ('<tool_call>{"id": "1", "name": "add", "arguments": {}, "type": "f"}</tool_call>', "", whole(("add", "{}"))),
        (f"<tool_call>{ADD}", "", whole(("add", '{"a": 1}'))),  # Models forget the tag behind a call.
        (ADD, "", whole(("add", '{"a": 1}'))),
        (f" [{ADD}, {ADD}] ", "", whole(("add", '{"a": 1}'), ("add", '{"a": 1}'))),
        ('{"type": "function", "name": "get_weather", "parameters": {}}', "", whole(("get_weather", "{}"))),
    ],
)
def test_calls_in_their_forms(text: str, content: str, calls: Calls) -> None:
    assert read([text]) == read(list(text)) == (content, calls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "Just words, {braces} and [brackets]. ",
        '{"name": "Alice", "arguments": {}}',
        '{"name": "add"}',
        '{"name": "add", "arguments": {}, "why": "because"}',
        '{"name": "add", "arguments": [1]}',
        '{"name": "add", "arguments": {"a": tru}}',
        '{"name": "add", "arguments": ' + '{"a": ' * 70 + "1" + "}" * 71,
        f"{ADD} is how one calls it.",
        f"Like so: {ADD}",
        f"[{ADD}, 1]",
        "<tool_call> is the tag",
        "The tag is <tool_call>",
        '<tool_call>{"name": "subtract", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "none"}</tool_call>',
        "a < b </tool_call> <tool_c",
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert read([text]) == read(list(text)) == (text, [])


def test_what_is_within_the_tags_beside_a_call() -> None:
    assert read([f"<tool_call>{ADD} oops</tool_call> Well."]) == (" oops Well.", whole(("add", '{"a": 1}')))
    assert read(['<tool_call>{"name": "add", "arguments": {"a": <b>}}</tool_call> Well.']) == (
        "<b>}} Well.",
        [("add", '{"a": ', False)],
    )


def test_text_is_held_back_only_where_it_may_begin_a_call() -> None:
    reader = CallReader(Calling(NAMES))
    assert reader.add("Wait") == [Part("Wait")]
    assert reader.add(" a <t") == [Part(" a")]
    assert reader.add("able> of") == [Part(" <table> of")]
    assert reader.add(' <tool_call>{"na') == []
    assert reader.add('me": "add", "arg') == []
    assert reader.add('uments": {"a') == [Part("", 0, begins=True), Part('{"a', 0)]
    assert reader.add('": [1') == [Part('": [1', 0)]
    assert reader.add("]}") == [Part("]}", 0)]
    assert reader.add("}</tool_call>") == reader.end() == []
    assert CallReader(Calling(NAMES)).add('{"city": ') == [Part('{"city":')]
    assert CallReader(Calling(())).add(TAGGED) == [Part(TAGGED)]


def test_a_message_that_a_conversation_goes_on_with() -> None:
    reader = CallReader(Calling(NAMES))
    assert reader.message == {"role": "assistant", "content": ""}
    reader.add(f"{TAGGED}{TAGGED}")
    first, second = reader.message["tool_calls"]
    assert first["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert first["id"] != second["id"]
    assert reader.message["content"] is None


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("held", ["auto", "forced"])
def test_an_answer_that_a_grammar_holds_is_known_for_a_call_at_once(name: str, held: Held) -> None:
    form = FORMS[name]
    text = f'{form.begin}add{form.middle}{{"a": 1}}{form.end}'
    begun = f'{form.begin}add{form.middle}{{"a'
    assert read([text], form, held) == read(list(text), form, held) == ("", whole(("add", '{"a": 1}')))
    assert read([begun], form, held) == read(list(begun), form, held) == ("", [("add", '{"a', False)])


def test_a_call_without_tags_is_known_at_once_where_a_grammar_holds_it() -> None:
    begun = f'{ALONE.begin}add{ALONE.middle}{{"a'
    assert read(list(begun), HERMES, "auto") == ("", [("add", '{"a', False)])
    assert read(list(begun)) == (begun, [])


@pytest.mark.parametrize(("name", "held"), [("hermes", "auto"), ("hermes", "forced"), ("llama3", "forced")])
def test_a_call_that_is_cut_before_its_name_leaves_nothing(name: str, held: Held) -> None:
    begun = f"{FORMS[name].begin}ad"
    assert read([begun], FORMS[name], held) == read(list(begun), FORMS[name], held) == ("", [])
    two = f"{HERMES.begin}add{HERMES.middle}{{}}{HERMES.between}ad"
    assert read([two], HERMES, held) == ("", whole(("add", "{}")))
    assert read([begun], FORMS[name]) == (begun, [])


FRAGMENTS = ["<tool_call>", "</tool_call>", "[CALLS]", "<tool", "_call>", "words", "\n", " ", *'{}[]",\\']
FRAGMENTS += ['{"name": "add", ', '"name": "add"', '"arguments": ', '"parameters": {', '{"a": 1}', '"id": "x"']
FRAGMENTS += [ADD, TAGGED]
FRAGMENTS += [LLAMA3.begin, f"add{LLAMA3.middle}", f"{CONTROL.begin}add{CONTROL.middle}"]


@settings(deadline=None, max_examples=400)
@given(
    text=st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    form=st.sampled_from(list(FORMS.values())),
    held=st.sampled_from(["free", "auto", "forced"]),
)
def test_pieces_make_no_difference(text: str, cuts: list[int], form: CallForm, held: Held) -> None:
    pieces = [text[start:end] for start, end in pairwise([0, *sorted(cuts), len(text) + 200])]
    assert "".join(pieces) == text
    assert read(pieces, form, held) == read([text], form, held) == read(list(text), form, held)


TEXT = st.text(max_size=6) | st.sampled_from(FRAGMENTS)
JSON = st.none() | st.integers() | TEXT | st.lists(TEXT, max_size=3) | st.dictionaries(TEXT, TEXT, max_size=2)


@settings(deadline=None, max_examples=50)
@given(
    words=st.text("word >}]", max_size=9).map(str.strip),
    calls=st.lists(st.tuples(st.sampled_from(NAMES), st.dictionaries(TEXT, JSON, max_size=3)), max_size=3),
    size=st.integers(1, 9),
)
def test_what_is_written_is_read(words: str, calls: list[tuple[str, dict[str, object]]], size: int) -> None:
    pairs = [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls]
    text = f"{words}\n" + "\n".join(f"{HERMES.begin}{name}{HERMES.middle}{text}{HERMES.end}" for name, text in pairs)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    assert read(pieces) == (words if calls else f"{words}\n", whole(*pairs))
