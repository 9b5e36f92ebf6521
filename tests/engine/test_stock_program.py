"""Programs that others have exported: their logits are those of the model, however the text comes to them."""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from executorch.exir._serialize._program import deserialize_pte_binary

from falcon_runtime.engine.request import Request
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.engine.stock_program import StockProgram
from falcon_runtime.errors import ModelDamaged, UnsupportedProgram
from falcon_runtime.models.stock.manifest import read_stock
from falcon_runtime.sampling import SamplingParams

from ..small_models import small_llama
from ..stock_programs import NAME, RUNNING, copied, patched, stock_program
from .test_scheduler import END, FakeProgram, alone, run, tokens_of

EXACT = [name for name in RUNNING if name not in ("exporter-8da4w", "ring")]
TEXT = [(7 * i + i * i) % 256 for i in range(60)]
GREEDY = SamplingParams(temperature=0, max_new_tokens=6)


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    """Of each token of `TEXT`, the logits in transformers."""
    with torch.no_grad():
        return small_llama()(torch.tensor([TEXT])).logits[0].numpy()


def loaded(folder: Path) -> StockProgram:
    return StockProgram(read_stock(folder), threads=1)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and float(np.abs(found - expected).max()) < 1e-3


@pytest.mark.parametrize("name", EXACT)
def test_logits_are_those_of_transformers(name: str, expected: np.ndarray) -> None:
    program = loaded(stock_program(name))
    # Anywhere, as the engine does that measures how long calls take.
    assert program.forward([[1, 2, 3]], [40], range(3 - min(3, program.max_rows), 3)).shape[1] == 320
    # A prompt in pieces, whose rows are asked for anywhere or not at all; then token by token.
    assert close(program.forward([TEXT[:40]], [0], [3, 17, 39]), expected[[3, 17, 39]])
    assert program.forward([TEXT[40:50]], [40], []).shape[0] == 0
    for position in range(50, 56):
        assert close(program.forward([TEXT[position : position + 1]], [position], [0])[0], expected[position])
    # Back to what was there before, and on with something else: nothing of it is left.
    assert close(program.forward([[1, 2, 3]], [20], [2])[0], np.array(_after([*TEXT[:20], 1, 2, 3])))
    assert close(program.forward([TEXT[20:60]], [20], [39])[0], expected[59])


def test_a_prompt_at_once_and_token_by_token_are_the_same_in_4_bits(expected: np.ndarray) -> None:
    program, other = (loaded(stock_program("exporter-8da4w")) for _ in range(2))
    rows = range(0, len(TEXT), 9)
    at_once = program.forward([TEXT], [0], rows)
    singly = np.stack([other.forward([[token]], [i], [0])[0].copy() for i, token in enumerate(TEXT)])
    assert close(at_once, singly[rows])
    assert np.corrcoef(singly.ravel(), expected.ravel())[0, 1] > 0.7


@pytest.mark.parametrize("name", ["exporter", "eight", "whole-text"])
def test_the_context_can_be_filled_and_no_more(name: str) -> None:
    program = loaded(stock_program(name))
    text = [i % 200 for i in range(program.context)]
    for start in range(0, len(text), 50):
        logits = program.forward([text[start : start + 50]], [start], [len(text[start : start + 50]) - 1])
    assert close(logits[0], np.array(_after(text)))
    for tokens, start in ([[1], len(text)], [[1, 2], len(text) - 1], [[1], -1]):
        with pytest.raises(ValueError, match="context"):
            program.forward([tokens], [start], [0])


def test_weights_may_be_in_a_file_of_their_own(tmp_path: Path) -> None:
    folder = copied("weights-apart", tmp_path / "model")
    logits = loaded(folder).forward([[5, 319]], [0], [0, 1])
    assert np.array_equal(logits, np.arange(320.0 * 320).reshape(320, 320)[[5, 319]])
    next(folder.glob("*.ptd")).unlink()
    with pytest.raises(ModelDamaged, match=r"its \.ptd file is missing"):
        loaded(folder)


def test_slots_are_programs_of_their_own(tmp_path: Path, expected: np.ndarray) -> None:
    folder = copied("exporter", tmp_path / "two")
    (folder / "stock.json").write_text('{"slots": 2}')
    program = loaded(folder)
    other = TEXT[::-1]
    program.forward([TEXT[:30], other[:20]], [0, 0], [])
    found = program.forward([TEXT[30:31], other[20:22]], [30, 20], [0, 2])
    assert close(found, np.stack([expected[30], _after(other[:22])]))


def test_requests_take_turns_and_a_second_turn_goes_on_from_the_first(tmp_path: Path) -> None:
    def scheduler(folder: Path) -> Scheduler:
        return Scheduler(loaded(folder), (256,), Pace(16, 8))

    def answer(scheduler: Scheduler, *prompts: Sequence[int]) -> list[tuple[tuple[int, ...], int]]:
        for i, prompt in enumerate(prompts):
            scheduler.submit(Request(i, list(prompt), GREEDY))
        steps = run(scheduler)
        return [(tokens_of(steps[i]), steps[i][-1].stats.cached_tokens) for i in range(len(prompts))]

    folder = stock_program("exporter")
    [(first, _)], [(second, _)] = (answer(scheduler(folder), prompt) for prompt in (TEXT[:20], TEXT[30:50]))
    one = scheduler(folder)
    assert [tokens for tokens, _ in answer(one, TEXT[:20], TEXT[30:50])] == [first, second]
    longer = [*TEXT[30:50], *second, 9, 8]
    ((again, cached),) = answer(one, longer)
    assert cached == 25
    assert again == answer(scheduler(folder), longer)[0][0]
    two = copied("exporter", tmp_path / "two")
    (two / "stock.json").write_text('{"slots": 2}')
    assert answer(scheduler(two), TEXT[:20], TEXT[:20], TEXT[:20]) == [(first, 0), (first, 0), (first, 20 - 4)]


def test_what_cannot_be_copied_is_computed_and_what_cannot_be_taken_back_begins_anew() -> None:
    class Uncopied(FakeProgram):
        copies = False

    class Ring(Uncopied):
        rewinds = False

    program = Uncopied(slots=2)
    scheduler = Scheduler(program, (END,), Pace(8, 4))
    for i in range(4):
        scheduler.submit(Request(i, [*range(20), i], SamplingParams(temperature=0, max_new_tokens=5)))
    steps = run(scheduler)
    assert [tokens_of(steps[i]) for i in range(4)] == [alone([*range(20), i], 5) for i in range(4)]
    assert [steps[i][-1].stats.cached_tokens for i in range(4)] == [0, 0, 20, 20]
    scheduler = Scheduler(Ring(slots=1, max_rows=1), (END,), Pace(8, 4))
    text, cached = list(range(10)), list[int]()
    for prompt in (text, [*text, *alone(text, 5), 4], [*text, 5], text):
        scheduler.submit(Request(0, prompt, SamplingParams(temperature=0, max_new_tokens=5)))
        (answered,) = run(scheduler).values()
        assert tokens_of(answered) == alone(list(prompt), 5)
        cached.append(answered[-1].stats.cached_tokens)
    assert cached == [0, 14, 0, 0]


def test_with_caches_that_are_rings_a_text_goes_on_or_is_read_anew() -> None:
    def answer(scheduler: Scheduler, prompt: Sequence[int]) -> tuple[tuple[int, ...], int]:
        scheduler.submit(Request(0, list(prompt), GREEDY))
        (steps,) = run(scheduler).values()
        return tokens_of(steps), steps[-1].stats.cached_tokens

    one, other = (Scheduler(loaded(stock_program("ring")), (256,), Pace(16, 8)) for _ in range(2))
    first, _ = answer(one, TEXT)
    longer = [*TEXT, *first, 9, 8]
    second, cached = answer(one, longer)
    assert cached == len(TEXT) + len(first) - 1
    assert answer(one, TEXT) == (first, 0)
    assert answer(one, [*TEXT[:40], 1]) == (*answer(other, [*TEXT[:40], 1])[:1], 0)
    assert answer(other, longer) == (second, 0)


def test_what_is_missing_here_is_named(tmp_path: Path) -> None:
    unknown = patched("exporter", tmp_path / "operator", b"llama::custom_sdpa", b"llama::custom_sdpx")
    with pytest.raises(UnsupportedProgram, match=r"needs operators that are not here: llama::custom_sdpx\.out\."):
        loaded(unknown)
    unknown = patched("exporter", tmp_path / "backend", b"XnnpackBackend", b"AnotherBackend")
    with pytest.raises(UnsupportedProgram, match=r"is for AnotherBackend.*Export it for XNNPACK"):
        loaded(unknown)


def test_weights_that_are_damaged_are_an_error(tmp_path: Path) -> None:
    program = copied("exporter", tmp_path / "damaged") / NAME
    content = bytearray(program.read_bytes())
    content[content.index(b"XH00") : content.index(b"XH00") + 4] = b"none"
    program.write_bytes(content)
    with pytest.raises(ModelDamaged, match="ExecuTorch cannot run"):
        loaded(program.parent)


@pytest.mark.parametrize("size", [1 << 60, -1], ids=["too much", "less than nothing"])
def test_a_plan_of_memory_that_nobody_has_is_an_error(size: int, tmp_path: Path) -> None:
    content = stock_program("eight").joinpath(NAME).read_bytes()
    plans = {plan.name: plan for plan in deserialize_pte_binary(content).program.execution_plan}
    (planned,) = (struct.pack("<q", size) for size in plans["forward"].non_const_buffer_sizes if size)
    assert content.count(planned) == 1
    folder = patched("eight", tmp_path / "large", planned, struct.pack("<q", size))
    with pytest.raises(ModelDamaged, match=r"there is no room for the .* bytes that its tensors take"):
        loaded(folder)


def _after(text: Sequence[int]) -> np.ndarray:
    """The logits in transformers after a text."""
    with torch.no_grad():
        return small_llama()(torch.tensor([list(text)])).logits[0, -1].numpy()
