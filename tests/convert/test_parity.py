"""A converted model computes what transformers computes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from falcon_runtime.convert import convert
from falcon_runtime.engine.program import Program
from falcon_runtime.engine.request import Request
from falcon_runtime.engine.scheduler import Pace, Scheduler
from falcon_runtime.models.manifest import CacheBits, RecipeName, read_manifest
from falcon_runtime.sampling import SamplingParams

from ..kept import CONVERTER, SMALL_MODELS, cache_of, made_once
from ..small_models import save_checkpoint, small_llama

PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [200, 3], [17] * 30, [*range(40, 90)]]

SHAPES = (6, 2, 64), (4, 4, 32), (5, 1, 32)
"""Of attention: heads, those for keys and values, and their size."""


@pytest.fixture(scope="module")
def reference() -> LlamaForCausalLM:
    return small_llama()


@pytest.fixture(scope="module")
def program(small_model: Path) -> Program:
    return Program(small_model, read_manifest(small_model), threads=2)


@pytest.fixture(scope="module")
def program_slots(small_model_slots: Path) -> Program:
    return Program(small_model_slots, read_manifest(small_model_slots), threads=2)


def logits_of(reference: LlamaForCausalLM, tokens: Sequence[int]) -> np.ndarray:
    with torch.no_grad():
        return reference(torch.tensor([tokens])).logits[0].numpy()


@pytest.mark.parametrize("slices", [[50], [1] * 50, [7, 1, 30, 12], [49, 1]])
def test_logits_do_not_depend_on_how_the_prompt_is_sliced(
    program: Program, reference: LlamaForCausalLM, slices: list[int]
) -> None:
    tokens = PROMPTS[3]
    expected = logits_of(reference, tokens)
    start = 0
    for count in slices:
        rows = range(count)
        found = program.forward([tokens[start : start + count]], [start], rows)
        np.testing.assert_allclose(found, expected[start : start + count], atol=1e-4)
        start += count


def test_going_back_overwrites_the_cache(program: Program, reference: LlamaForCausalLM) -> None:
    program.forward([PROMPTS[3]], [0], [0])
    found = program.forward([[1, 2, 3]], [10], [2])
    np.testing.assert_allclose(found[0], logits_of(reference, [*PROMPTS[3][:10], 1, 2, 3])[-1], atol=1e-4)


def test_the_last_position_of_the_context_is_right(program: Program, reference: LlamaForCausalLM) -> None:
    tokens = [i % 256 for i in range(program.context)]
    program.forward([tokens[:-1]], [0], [0])
    found = program.forward([tokens[-1:]], [program.context - 1], [0])
    np.testing.assert_allclose(found[0], logits_of(reference, tokens)[-1], atol=1e-4)


@pytest.mark.parametrize(
    ("recipe", "cache", "heads", "kv_heads", "head_dim"),
    [
        *(("fp32", None, *heads) for heads in SHAPES),
        *(("int8", 16, *heads) for heads in SHAPES),
        ("int8", 8, *SHAPES[0]),
    ],
)
def test_a_long_past(
    tmp_path: Path, recipe: RecipeName, cache: CacheBits | None, heads: int, kv_heads: int, head_dim: int
) -> None:
    """Over several blocks and pieces of keys, with few new rows and with many, in all kinds of cache."""
    shape = {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim}
    reference = small_llama(hidden_size=96, max_position_embeddings=1024, num_hidden_layers=1, **shape)

    def make(folder: Path) -> None:
        save_checkpoint(reference, tmp_path / "checkpoint")
        convert(str(tmp_path / "checkpoint"), tmp_path, recipe, slots=2, context=1024, output=folder, cache=cache)

    kept = cache_of(*CONVERTER, *SMALL_MODELS, Path(__file__))
    folder = made_once(kept / f"{recipe}-{cache}-{heads}-{kv_heads}-{head_dim}", make)
    program = Program(folder, read_manifest(folder), threads=2)
    tokens = [i * i % 251 for i in range(1000)]
    expected = logits_of(reference, tokens)

    def check(found: np.ndarray, rows: Sequence[int]) -> None:
        if recipe == "fp32":
            np.testing.assert_allclose(found, expected[rows], atol=1e-4)
        else:
            assert np.corrcoef(found.ravel(), expected[rows].ravel())[0, 1] > 0.98

    for start in range(0, 900, 90):
        other = start // 9  # The other sequence has rows in the same forward, and another past.
        new = tokens[start : start + 90], tokens[other : other + 10]
        check(program.forward(new, [start, other], [89, 99]), [start + 89, other + 9])
    for start, count in ((900, 1), (901, 3), (904, 9), (913, 40)):
        rows = range(start, start + count)
        check(program.forward([tokens[start : start + count], []], [start, 0], range(count)), rows)


def test_slots_are_independent(program_slots: Program, reference: LlamaForCausalLM) -> None:
    first, second, third = PROMPTS[0], PROMPTS[1], PROMPTS[2]
    rows = [len(first) - 1, len(first) + len(second) - 1, len(first) + len(second) + len(third) - 1]
    found = program_slots.forward([first, second, third], [0, 0, 0], rows)
    for logits, tokens in zip(found, (first, second, third), strict=True):
        np.testing.assert_allclose(logits, logits_of(reference, tokens)[-1], atol=1e-4)
    # One decodes, one reads on, one idles with a throw-away token; then that one goes on as if nothing had been.
    found = program_slots.forward([[20], [21, 22, 23], [0]], [len(first), len(second), len(third)], [0, 3])
    np.testing.assert_allclose(found[0], logits_of(reference, [*first, 20])[-1], atol=1e-4)
    np.testing.assert_allclose(found[1], logits_of(reference, [*second, 21, 22, 23])[-1], atol=1e-4)
    found = program_slots.forward([[0], [0], [24]], [len(first) + 1, len(second) + 3, len(third)], [2])
    np.testing.assert_allclose(found[0], logits_of(reference, [*third, 24])[-1], atol=1e-4)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("slice_tokens", [5, 128])
def test_greedy_tokens_equal_transformers(
    request: pytest.FixtureRequest, reference: LlamaForCausalLM, slots: int, slice_tokens: int
) -> None:
    program: Program = request.getfixturevalue("program" if slots == 1 else "program_slots")
    scheduler = Scheduler(program, (256,), Pace(slice_tokens, slice_tokens), costs=[1.0] * 64)
    params = SamplingParams(temperature=0, max_new_tokens=64, stop_on_repetition=False)
    for i, prompt in enumerate(PROMPTS):
        scheduler.submit(Request(i, list(prompt), params))
    answers: dict[int, list[int]] = {i: [] for i in range(len(PROMPTS))}
    while scheduler.busy:
        for step in scheduler.step():
            answers[step.request] += step.token_ids
    for i, prompt in enumerate(PROMPTS):
        answer = answers[i]
        assert len(answer) == 64 or answer[-1] == 256
        assert 256 not in answer[:-1]
        # Each token is the likeliest for transformers too; of two that are as likely but for rounding, either may be.
        logits = logits_of(reference, [*prompt, *answer])[len(prompt) - 1 : -1]
        np.testing.assert_allclose(logits[range(len(answer)), answer], logits.max(-1), atol=1e-4)
