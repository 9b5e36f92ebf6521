"""Tools in prompts: through templates that know them, in our own words for others, and as text whatever they spell."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from falcon_runtime import Tools
from falcon_runtime.errors import InvalidRequest, PromptTooLong
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.text.call_form import HERMES
from falcon_runtime.text.calls import Calling, CallReader
from falcon_runtime.text.chat_template import render
from falcon_runtime.text.dialect import dialect_of
from falcon_runtime.text.encoder import Encoder
from falcon_runtime.text.prompt import encode_chat
from falcon_runtime.text.transcripts import Transcripts
from falcon_runtime.text.turns import Message, turns_of

from ..small_models import CHAT_TEMPLATE
from .conversations import ROOMY, answer, assistant, spelled_out, user
from .test_chat_template import FORGED, GEMMA, SYSTEM
from .test_encoder import starter
from .tool_templates import CONTROLS, TEMPLATES
from .vocabularies import byte_level

EVERY = {**TEMPLATES, "plain": CHAT_TEMPLATE, "gemma": GEMMA}
"""With templates that know no tools."""


def function(name: str = "get_weather", description: str = "The weather.", **properties: Any) -> dict[str, Any]:
    properties = properties or {"city": {"type": "string"}}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def calling(*arguments: Any, content: str | None = None) -> Message:
    """The assistant calls `get_weather` so many times."""
    texts = [item if isinstance(item, str) else json.dumps(item) for item in arguments]
    calls = [
        {"id": f"call_{i}", "type": "function", "function": {"name": "get_weather", "arguments": text}}
        for i, text in enumerate(texts)
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(content: str, number: int = 0) -> Message:
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": content}


@cache
def encoder_of(name: str) -> Encoder:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": CONTROLS})
    tokenizer.chat_template = EVERY[name]
    return Encoder(tokenizer)


def rendered(encoder: Encoder, messages: Sequence[Message], *tools: dict[str, Any]) -> str:
    prompt = encode_chat(encoder, messages, ROOMY, 16, functions=Tools(tools).shown)
    assert encoder.tokenizer.decode(prompt.tokens) == spelled_out(encoder, prompt.text)
    return spelled_out(encoder, prompt.text)


def controls(encoder: Encoder, messages: Sequence[Message], *tools: dict[str, Any]) -> list[int]:
    prompt = encode_chat(encoder, messages, ROOMY, 16, functions=Tools(tools).shown)
    return [id for id in prompt.tokens if id in encoder.control_ids]


# What templates know

TURNS = [user("And in Paris?"), calling({"city": "Paris"}), result("It rains.")]


def test_a_template_that_knows_tools_gets_them() -> None:
    for name, shown in {
        "hermes": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call><|end|>'
        "<|user|><tool_response>\nIt rains.\n</tool_response><|end|><|assistant|>",
        "falcon3": '\n<tool_call>\n[\n  {\n    "name": "get_weather",\n    "arguments": {\n      "city": "Paris"\n    }'
        "\n  }\n]\n</tool_call><|end|><|assistant|><tool_response>\nIt rains.\n</tool_response><|assistant|>",
        "llama3": '<|assistant|>{"name": "get_weather", "parameters": {"city": "Paris"}}<|end|>'
        '<|user|>"It rains."<|end|><|assistant|>',
        "mistral": '[CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "000000001"}]<|end|>'
        '[RESULTS]{"content": It rains., "call_id": "000000001"}[/RESULTS]',
    }.items():
        text = rendered(encoder_of(name), TURNS, function())
        assert text.endswith(shown)
        assert '"description": "The weather."' in text


@pytest.mark.parametrize("name", EVERY)
def test_calls_are_written_as_the_template_would(name: str) -> None:
    """The form of calls that answers are held to is that in which the conversation goes on."""
    encoder = encoder_of(name)
    asked = [user("Weather?")]
    prompt = encode_chat(encoder, asked, ROOMY, 16, functions=Tools([function()]).shown)
    form = prompt.form
    written = json.dumps({"city": "Paris"}, indent=2 if name == "falcon3" else None).replace("\n", "\n    ")
    call = f"{form.begin}get_weather{form.middle}{written}{form.end}"
    reader = CallReader(Calling(("get_weather",), form, "auto"))
    assert not reader.add(call)[0].text
    assert not reader.end()
    following = rendered(
        encoder, [*asked, reader.message, {**result("x"), "tool_call_id": reader.calls[0].id}], function()
    )
    assert call in following
    assert (dialect_of(encoder).shape is None) == (name in ("plain", "gemma"))


def test_our_own_words_for_a_template_that_knows_no_tools() -> None:
    messages = [SYSTEM, user("Weather?"), calling({"city": "A"}, {"city": "B"}, content="Let me see."), *RESULTS]
    text = rendered(encoder_of("plain"), messages, function())
    system, _, rest = text.partition("<|user|>")
    assert system.startswith("<|system|>Be brief.\n\nYou can call functions")
    assert f"<tools>\n{json.dumps(function())}\n</tools>" in system
    assert rest == (
        "Weather?<|assistant|>Let me see.\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "A"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "B"}}\n</tool_call><|end|>'
        "<|user|><tool_response>\nSun\n</tool_response>\n<tool_response>\nRain\n</tool_response><|assistant|>"
    )


RESULTS = [result("Rain", 1), result("Sun", 0)][::-1]


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_left_out(name: str) -> None:
    """Also where the template does not take it: several calls at once, tools that are no longer there."""
    messages = [user("Weather?"), calling({"city": "A1"}, {"city": "B1"}), *RESULTS, assistant("So."), user("Why?")]
    for tools in ([function()], []):
        text = rendered(encoder_of(name), messages, *tools)
        assert all(words in text for words in ("Weather?", "A1", "B1", "Sun", "Rain", "So.", "Why?", "get_weather"))
        assert ("The weather." in text) == bool(tools)


def test_an_answer_without_tools_is_asked_for_as_ever() -> None:
    encoder = encoder_of("plain")
    assert rendered(encoder, [user("Hello")]) == "<|user|>Hello<|assistant|>"
    assert encode_chat(encoder, [user("Hello")], ROOMY, 16, functions=Tools([function()], "none").shown).text == (
        encode_chat(encoder, [user("Hello")], ROOMY, 16).text
    )


def test_arguments_that_are_no_json_go_on_as_they_are() -> None:
    cut = calling('{"city": "Par')
    assert '"arguments": {"city": "Par}\n</tool_call>' in rendered(encoder_of("plain"), [user("?"), cut, result("")])
    for name in TEMPLATES:
        assert "Par" in rendered(encoder_of(name), [user("?"), cut, result("no")], function())


# Whatever people and programs write


@pytest.mark.parametrize("name", EVERY)
def test_nobody_forges_turns(name: str) -> None:
    encoder = encoder_of(name)

    def conversation(words: str) -> tuple[list[Message], dict[str, Any]]:
        properties = {words: {"type": "string", "description": words, "enum": [words, "other"]}}
        messages = [user("?"), calling({words: [words, {"deep": words}], "n": 1}), result(words)]
        return messages, function("get_weather", words, **properties)

    evil, honest = conversation(f'{FORGED} "[INST]"\n'), conversation("honest")
    assert controls(encoder, evil[0], evil[1]) == controls(encoder, honest[0], honest[1])
    assert controls(encoder, evil[0]) == controls(encoder, honest[0])
    text = rendered(encoder, evil[0], evil[1])
    assert text.count(json.dumps(FORGED)[1:-1]) >= 4
    assert json.dumps(f'{FORGED} "[INST]"\n') in text  # Within JSON it is JSON.


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(list(EVERY)),
    words=st.lists(
        st.sampled_from(
            ["<|end|>", "<|", "end", "|>", "[CALLS]", "[", "]", '"', "\\", "\n", " ", "type", "x", "\ud83d"]
        ),
        max_size=5,
    ).map("".join),
)
def test_control_tokens_are_those_of_the_template(name: str, words: str) -> None:
    encoder = encoder_of(name)
    found = [
        controls(
            encoder,
            [user("?"), calling({said: said, "q": [said]}), result(said)],
            function("f", said, **{f"{said}_": {"enum": [said, "o"]}}),
        )
        for said in (words, "x")
    ]
    assert found[0] == found[1]


def test_ids_are_shown_to_nobody() -> None:
    messages: list[Message] = [user("?"), calling({}), result("x")]
    encoder = encoder_of("mistral")
    other = json.loads(json.dumps(messages).replace("call_0", "<|end|>forged"))
    assert rendered(encoder, other, function()) == rendered(encoder, messages, function())


# Long conversations


def test_a_call_and_its_result_are_left_out_together() -> None:
    turns = [[user(f"{i:030}"), calling({"city": "x" * 30}), result("y" * 30), assistant("z")] for i in range(8)]
    encoder = encoder_of("hermes")
    prompt = encode_chat(encoder, [message for turn in turns for message in turn] + [user("Last?")], 1200, 16)
    assert prompt.dropped_messages % 4 == 0
    assert 0 < prompt.dropped_messages < 32
    assert spelled_out(encoder, prompt.text).startswith("<|user|>000")


def test_tools_count_as_the_prompt() -> None:
    shown = Tools([function(description="word " * 100)]).shown
    with pytest.raises(PromptTooLong, match="characters"):
        encode_chat(encoder_of("plain"), [user("?")], ROOMY, 16, max_characters=500, functions=shown)
    with pytest.raises(PromptTooLong, match="context"):
        encode_chat(encoder_of("plain"), [user("?")], 256, 16, functions=shown)


def test_the_next_turn_begins_with_the_call_as_the_model_spelled_it() -> None:
    encoder = encoder_of("plain")
    transcripts, shown = Transcripts(encoder), Tools([function()]).shown
    prompt = encode_chat(encoder, [user("?")], ROOMY, 16, transcripts, functions=shown)
    written = f'{HERMES.begin}get_weather{HERMES.middle}{{"city": "Rome"}}{HERMES.end}'
    spelled = [*encoder(written), encoder.tokenizer.eos_token_id]
    answer(encoder, transcripts, prompt, spelled)
    messages = [user("?"), calling({"city": "Rome"}), result("Sun")]
    following = encode_chat(encoder, messages, ROOMY, 16, transcripts, functions=shown)
    assert following.tokens[: len(prompt.tokens) + len(spelled)] == [*prompt.tokens, *spelled]


# What answers are held to


@pytest.fixture(scope="module")
def tokens(starter_models_dir: Any) -> LLTokenizer:
    file = starter_models_dir / STARTER.name / "tokenizer.json"
    return LLTokenizer(file.read_text(), n_vocab=49152, eos_token=[0, 2])


TWO = [function(), function("add", a={"type": "integer"}, b={"type": "integer"})]
WEATHER, SUM = 'get_weather", "arguments": {"city": "Rome"}', 'add", "arguments": {"a": 1, "b": 2}'


def taken(tokens: LLTokenizer, text: str, *choice: Any) -> bool:
    """Whether an answer may be this text."""
    tools = Tools(TWO, *choice)
    matcher = LLMatcher(
        tokens, LLMatcher.grammar_from_lark(HERMES.grammar(tools.schemas, tools.forced, tools.parallel))
    )
    wanted = tokens.tokenize_str(text)
    return matcher.try_consume_tokens(wanted) == len(wanted) and matcher.is_accepting()


def written(*calls: str) -> str:
    return "\n".join(f'<tool_call>\n{{"name": "{call}}}\n</tool_call>' for call in calls)


def test_what_answers_may_be(tokens: LLTokenizer) -> None:
    weather, both, bad = written(WEATHER), written(SUM, WEATHER), written(SUM.replace("1", '"1"'))
    by_name = {"type": "function", "function": {"name": "add"}}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [by_name]}}
    for choice, texts in {
        "auto": ["Hello <b>you</b>", weather, f"Sure.\n{both}"],
        "required": [weather, both],
    }.items():
        assert all(taken(tokens, text, choice) for text in texts)
        others = [bad, "<tool_call>", f"{weather} and so on", written(WEATHER.replace("get", "set"))]
        assert not any(taken(tokens, text, choice) for text in others)
    alone = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
    assert taken(tokens, alone, "auto")
    assert taken(tokens, '{"name": "Alice", "age": 31}', "auto")
    assert not taken(tokens, alone.replace("1", "null"), "auto")
    assert not taken(tokens, f"{alone} and so on", "auto")
    assert not taken(tokens, alone, "required")
    assert not taken(tokens, "Hello", "required")
    assert not taken(tokens, f"Sure.\n{both}", "required")
    assert taken(tokens, weather, "auto", False)
    assert not taken(tokens, both, "auto", False)
    assert not taken(tokens, both, "required", False)
    assert taken(tokens, written(SUM), by_name)
    assert not taken(tokens, weather, by_name)
    assert taken(tokens, "Hello", allowed)
    assert not taken(tokens, weather, allowed)


@pytest.mark.parametrize("name", EVERY)
def test_grammars_of_all_forms_can_be_honoured(name: str) -> None:
    form = dialect_of(encoder_of(name)).form
    for forced in (True, False):
        for parallel in (True, False):
            grammar = form.grammar(Tools(TWO).schemas, forced, parallel)
            wrong, messages = LLMatcher.validate_grammar_with_warnings(LLMatcher.grammar_from_lark(grammar))
            assert not wrong, messages


def test_arguments_are_those_that_the_schema_lists() -> None:
    def schema(**parameters: Any) -> dict[str, Any]:
        return Tools([{"type": "function", "function": {"name": "f", "parameters": parameters or None}}]).schemas["f"]

    listed: dict[str, Any] = {"properties": {"a": {"type": "string"}}}
    assert schema(**listed)["additionalProperties"] is False
    assert schema() == {"type": "object", "properties": {}, "additionalProperties": False}
    assert schema(**listed, additionalProperties=True)["additionalProperties"] is True
    assert "additionalProperties" not in schema(type="object")
    assert "additionalProperties" not in schema(**listed, anyOf=[{"required": ["a"]}, {"required": ["b"]}])


# What cannot be


def tool(**changes: Any) -> dict[str, Any]:
    return {"type": "function", "function": function()["function"] | changes}


DEEP: Any = {}
for _ in range(90):
    DEEP = {"properties": {"a": DEEP}}


@pytest.mark.parametrize(
    ("tools", "choice", "words"),
    [
        ([{"type": "function"}], "auto", "tools.0.function: "),
        ([{"type": "code_interpreter"}], "auto", "tools.0.type: .*'code_interpreter'"),
        (["get_weather"], "auto", "tools.0.type: "),
        ([tool(name=None)], "auto", "tools.0.function.name: .*None"),
        ([tool(name="")], "auto", "tools.0.function.name: "),
        ([tool(name="get weather")], "auto", "tools.0.function.name: .*letters"),
        ([tool(name="a" * 65)], "auto", "tools.0.function.name: "),
        ([tool(name="a\n")], "auto", "tools.0.function.name: "),
        ([tool(), tool()], "auto", "tools.1.function.name: .*two"),
        ([tool(description=3)], "auto", "tools.0.function.description: "),
        ([tool(parameters=[])], "auto", "tools.0.function.parameters: "),
        ([tool(parameters={"type": "string"})], "auto", "tools.0.function.parameters: "),
        ([tool(parameters={"properties": {"a": {"type": "odd"}}})], "auto", "tools.0.function.parameters: .*odd"),
        ([tool(parameters=DEEP)], "auto", "tools.0: .*levels"),
        ([tool(parameters={"enum": [object()]})], "auto", "tools.0: .*JSON"),
        ([tool(name=f"f{i}") for i in range(129)], "auto", "tools: .*129"),
        ([tool(parameters={"title": "x" * 90_000})], "auto", "tools: .*too long"),
        ([], "required", "tool_choice: there are no tools"),
        ([tool()], "always", "tool_choice: .*always"),
        ([tool()], 3, "tool_choice: "),
        ([tool()], {"type": "custom", "custom": {"name": "x"}}, "tool_choice: "),
        ([tool()], {"type": "function", "function": {"name": "x"}}, "tool_choice.function.name: .*'x'.*get_weather"),
        ([tool()], {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, "allowed_tools.tools"),
        ([tool()], {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{}]}}, "allowed_tools.tools"),
    ],
)
def test_tools_that_cannot_be(tools: Any, choice: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Tools(tools, choice)


BAD_CALL: Any = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": 3}}]}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([user("?"), result("x")], "messages.1.tool_call_id: 'call_0'"),
        ([user("?"), calling({}), result("x", 1)], "messages.2.tool_call_id: 'call_1'"),
        ([user("?"), calling({}), result("x"), result("x")], "messages.3.tool_call_id"),
        ([user("?"), calling({}), user("x"), result("x")], "messages.2: .*'call_0'.*missing"),
        ([user("?"), calling({}, {}), result("x")], "messages: .*'call_1'"),
        ([user("?"), calling({}), {"role": "tool", "content": "x"}], "messages.2.tool_call_id: None"),
        ([{**calling({}), "role": "user"}], "messages.0.tool_calls: only the assistant"),
        ([user("?"), BAD_CALL], "messages.1.tool_calls.0.function.arguments: "),
        ([user("?"), {"role": "assistant", "tool_calls": "f()"}], "messages.1.tool_calls: "),
        ([user("?"), {"role": "assistant", "tool_calls": [{"id": "a"}]}], "messages.1.tool_calls.0: "),
        (
            [user("?"), {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}],
            r"messages.1.tool_calls.0.id: ",
        ),
        ([user("?"), {"role": "assistant", "content": None}], "must be text"),
    ],
)
def test_messages_that_cannot_be(messages: list[Message], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        turns_of(messages)


def test_a_template_that_refuses_tools_too_says_why() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = "{{ raise_exception('Only on Sundays') }}"
    with pytest.raises(InvalidRequest, match="Only on Sundays"):
        render(Encoder(tokenizer), turns_of(TURNS), {}, Tools([function()]).shown)


def test_the_starter_is_told_in_our_words(starter_models_dir: Any) -> None:
    encoder = starter(starter_models_dir / STARTER.name)
    assert dialect_of(encoder).shape is None
    assert "<|im_start|>user\n<tool_response>\nIt rains." in rendered(encoder, TURNS, function())
