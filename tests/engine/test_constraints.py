"""Answers that must be something: what is chosen is allowed, and nothing else changes."""

import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from falcon_runtime import FalconRuntime, SamplingParams
from falcon_runtime.constraint import Constraint
from falcon_runtime.engine.constraints import Follower, Grammars
from falcon_runtime.engine.request import Request
from falcon_runtime.engine.sampler import Mask
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.errors import InvalidRequest

from .fake_program import VOCABULARY
from .test_scheduler import FakeProgram, run, tokens_of

END = 96
ALLOWED = 5
"""Tokens that `Alternating` allows at a time."""


def allowed_after(taken: Sequence[int]) -> list[int]:
    """After three tokens there is one way only to go on."""
    start = (sum(taken) * 7 + len(taken)) % 90
    return [start] if len(taken) % 4 == 3 else [start + i for i in range(ALLOWED)]


class Alternating(Follower):
    """Allows some tokens, which depend on those before."""

    def __init__(self) -> None:
        super().__init__(None)
        self.taken: list[int] = []

    def take(self, token: int) -> None:
        assert token in allowed_after(self.taken)
        self.taken.append(token)

    def forced(self, count: int) -> tuple[int, ...]:
        options = allowed_after(self.taken)
        return tuple(options[:count]) if len(options) == 1 else ()

    def allowed(self, tokens: Sequence[int]) -> int:
        for i, token in enumerate(tokens):
            if token not in allowed_after([*self.taken, *tokens[:i]]):
                return i
        return len(tokens)

    def masks(self, drafted: Sequence[int]) -> list[Mask]:
        masks = []
        for i in range(len(drafted) + 1):
            bits = np.zeros(128, np.uint8)
            bits[allowed_after([*self.taken, *drafted[:i]])] = 1
            masks.append(np.packbits(bits, bitorder="little").view(np.int32))
        return masks


class AlternatingGrammars(Grammars):
    def __init__(self) -> None:
        super().__init__(Path(), VOCABULARY, [END])

    def follower(self, _constraint: Constraint) -> Follower:
        return Alternating()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_drafting_changes_no_constrained_text(seed: int, temperature: float) -> None:
    """Where a forward of many rows is free, as much as can be is drafted; where each row costs a forward, nothing."""
    params = SamplingParams(
        temperature=temperature, seed=seed, max_new_tokens=40, constraint=Constraint(choice=("any",)), top_k=0, top_p=1
    )
    texts, drafted = [], []
    for costs in ([1.0] * 32, [float(rows) for rows in range(1, 33)]):
        scheduler = Scheduler(FakeProgram(), (END,), Pace(8, 8), costs, grammars=AlternatingGrammars())
        scheduler.submit(Request(0, [1, 2, 3, 1, 2, 3], params))
        scheduler.submit(Request(1, [4, 5], params.model_copy(update={"constraint": None})))
        steps = run(scheduler)
        texts.append((tokens_of(steps[0]), tokens_of(steps[1])))
        drafted.append(steps[0][-1].stats.drafted_tokens)
    assert texts[0] == texts[1]
    assert len(texts[0][0]) == 40
    assert drafted[0] > drafted[1]  # What is forced is drafted.


def test_one_that_cannot_be_followed_ends_alone() -> None:
    class Hopeless(AlternatingGrammars):
        def follower(self, _constraint: Constraint) -> Follower:
            return Follower(None, "no reason")

    scheduler = Scheduler(FakeProgram(), (END,), Pace(8, 8), grammars=Hopeless())
    params = SamplingParams(max_new_tokens=5, temperature=0)
    scheduler.submit(Request(0, [1, 2], params.model_copy(update={"constraint": Constraint(choice=("any",))})))
    scheduler.submit(Request(1, [1, 2], params))
    steps = run(scheduler)
    assert [step.problem for step in steps[0] if step.problem] == ["constraint: no reason"]
    assert len(tokens_of(steps[1])) == 5


@pytest.fixture(scope="module")
def runtime(starter_models_dir: Path) -> Any:
    with FalconRuntime(models_dir=starter_models_dir) as runtime:
        yield runtime


def answer(runtime: FalconRuntime, constraint: dict[str, Any], **params: Any) -> tuple[str, str | None]:
    """The text, and how it ended."""
    question = "Write something of the form that is wanted."
    chunks = list(runtime.instruct(question, params=SamplingParams(constraint=constraint, **params)))
    return "".join(chunk.text for chunk in chunks), chunks[-1].finish_reason


def schemas(count: int) -> list[dict[str, Any]]:
    """Of many kinds, the same ones each time."""
    draw = random.Random(5)
    names = ["name", "größe", "名前", "a b", 'quote"', "back\\slash", "🦅", "price", "tags", "x" * 40]

    def schema(depth: int) -> dict[str, Any]:
        kinds = ["string", "integer", "number", "boolean", "null", "enum", "const", "format", "bounded"]
        match draw.choice(kinds + ["object", "object", "array", "anyOf"] * (depth > 0)):
            case "object":
                properties = {name: schema(depth - 1) for name in draw.sample(names, draw.randint(0, 4))}
                required = [name for name in properties if draw.random() < 0.7]
                return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
            case "array":
                least = draw.randint(0, 2)
                return {"type": "array", "items": schema(depth - 1), "minItems": least, "maxItems": least + 2}
            case "anyOf":
                return {"anyOf": [schema(depth - 1), schema(depth - 1)]}
            case "enum":
                return {"enum": draw.sample(["red", "grün", "青", 1, None, True], 3)}
            case "const":
                return {"const": draw.choice(["only this", 42, None])}
            case "format":
                return {"type": "string", "format": draw.choice(["date", "time", "uuid", "ipv4", "email"])}
            case "bounded":
                return draw.choice(
                    [
                        {"type": "string", "minLength": 2, "maxLength": 8},
                        {"type": "integer", "minimum": -5, "maximum": 300},
                        {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
                    ]
                )
            case kind:
                return {"type": kind}

    return [schema(3) for _ in range(count)]


def check_schemas(runtime: FalconRuntime, count: int) -> None:
    def ask(numbered: tuple[int, dict[str, Any]]) -> bool:
        number, schema = numbered
        text, finish = answer(runtime, {"json_schema": schema}, temperature=1, seed=number, max_new_tokens=120)
        if finish != "stop":
            assert finish in ("length", "repetition")
            return False
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        return True

    with ThreadPoolExecutor(8) as pool:
        whole = sum(pool.map(ask, enumerate(schemas(count))))
    assert whole > count / 2


def test_answers_satisfy_their_schemas(runtime: FalconRuntime) -> None:
    check_schemas(runtime, 24)


@pytest.mark.slow
def test_answers_satisfy_many_schemas(runtime: FalconRuntime) -> None:
    check_schemas(runtime, 200)


def test_other_constraints(runtime: FalconRuntime) -> None:
    assert answer(runtime, {"choice": ["yes", "no", 'per"haps']})[0] in ("yes", "no", 'per"haps')
    text, finish = answer(runtime, {"regex": r"[0-9]{4}-[0-9]{2}-[0-9]{2}"}, temperature=1)
    assert [len(part) for part in text.split("-")] == [4, 2, 2]
    assert finish == "stop"
    assert answer(runtime, {"grammar": 'start: "I have " NUMBER " cats"\nNUMBER: /[1-9]/'})[0].startswith("I have ")
    text, finish = answer(runtime, {"json_object": True}, max_new_tokens=300)
    assert finish != "stop" or isinstance(json.loads(text), dict)
    text, finish = answer(runtime, {"json_schema": {"type": "string", "minLength": 500}}, max_new_tokens=5)
    assert finish == "length"


def test_a_schema_that_spells_control_tokens(runtime: FalconRuntime) -> None:
    name = "<|im_end|>\n<|im_start|>"
    schema = {
        "type": "object",
        "properties": {name: {"const": name}},
        "required": [name],
        "additionalProperties": False,
    }
    text, finish = answer(runtime, {"json_schema": schema})
    assert json.loads(text) == {name: name}
    assert finish == "stop"


def test_what_has_begun_is_gone_on_with(runtime: FalconRuntime) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema["additionalProperties"] = False
    begun = '{"n": 1'
    text, finish = answer(runtime, {"json_schema": schema, "begun": begun}, max_new_tokens=40)
    assert finish != "stop" or isinstance(json.loads(begun + text)["n"], int)
    with pytest.raises(InvalidRequest, match="not the beginning"):
        answer(runtime, {"json_schema": schema, "begun": "Well, "})


def test_what_holds_beside_a_constraint(runtime: FalconRuntime) -> None:
    """Seeds, stop texts and log-probabilities."""
    schema = {"json_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
    params: dict[str, Any] = {"temperature": 1, "seed": 3, "max_new_tokens": 40}
    text, _ = answer(runtime, schema, **params)
    assert answer(runtime, schema, **params)[0] == text
    assert answer(runtime, schema, stop=("city",), **params)[0] == '{"'
    chunks = list(runtime.instruct("A city.", params=SamplingParams(constraint=schema, logprobs=1, **params)))
    logprobs = [token for chunk in chunks for token in chunk.logprobs]
    assert len(logprobs) == sum(len(chunk.token_ids) for chunk in chunks)
    assert logprobs[0].top[0][0] != logprobs[0].token_id  # It would rather have begun with a word.


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ({}, "one of json_schema"),
        ({"regex": "a", "choice": ["b"]}, "not 2 of them"),
        ({"regex": "(a"}, "regex: it cannot be honoured: .*unclosed group"),
        ({"grammar": "start: missing"}, "grammar: .*missing"),
        ({"choice": []}, "choice: there must be"),
        ({"json_schema": {"type": "strange"}}, "json_schema: .*strange"),
        ({"json_schema": {"$ref": "https://example.com/schema"}}, "json_schema: "),
        ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 1}}, "json_schema: "),
        ({"regex": "a" * 300_000}, "regex: it is too long"),
        ({"regex": ".*", "begun": "a" * 300_000}, "begun: it is too long"),
        ({"xml": "a"}, "xml"),
    ],
)
def test_what_cannot_be_honoured_is_said_before_anything_else(constraint: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        SamplingParams(constraint=constraint)


def test_a_tokenizer_with_tokens_of_hundreds_of_bytes(tmp_path: Path) -> None:
    """Rows of dashes are tokens of many models; under a constraint they are written in shorter ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        ["-" * 2048] * 9, trainers.BpeTrainer(special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    dashes, end = "-" * 64, tokenizer.token_to_id("<end>")
    assert any(len(piece) > 256 for piece in tokenizer.get_vocab())
    follower = Grammars(tmp_path / "tokenizer.json", tokenizer.get_vocab_size(), [end]).follower(
        Constraint(regex="-{64}")
    )
    assert not follower.problem
    follower.take(tokenizer.token_to_id(dashes))
    assert follower.over


def test_a_tokenizer_that_cannot_be_constrained_is_read_once(tmp_path: Path) -> None:
    """It may have megabytes, and everybody's answers wait meanwhile."""
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    grammars = Grammars(file, 10, [0])
    first = grammars.follower(Constraint(regex="a")).problem
    assert first
    assert "does not support constraints" in first
    file.unlink()
    assert grammars.follower(Constraint(regex="a")).problem == first
