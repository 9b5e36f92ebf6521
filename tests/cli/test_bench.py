"""The benchmark of one model; what is measured depends on the machine and is only looked at for being there."""

import itertools
import json
from dataclasses import fields
from pathlib import Path

import pytest

from falcon_runtime.cli.bench import CONTEXTS, DECODED, PREFILLED, STREAMS, Benchmark, Meter, measure
from falcon_runtime.convert import convert
from falcon_runtime.engine.ceilings import Ceilings
from falcon_runtime.models.manifest import read_manifest
from falcon_runtime.runtime import FalconRuntime
from falcon_runtime.status import Status
from falcon_runtime.system.instruction_sets import chosen
from falcon_runtime.system.machine import cpu_name

from ..command_line import Call, run


def test_every_figure_is_measured(small_model_slots: Path) -> None:
    told: list[Status] = []
    result = measure(str(small_model_slots), threads=2, rounds=1, on_status=told.append)
    manifest = read_manifest(small_model_slots)
    assert set(result.decode_tokens_per_second) == {16}  # 128 tokens of context hold no other, with an answer of 64.
    assert set(result.streams_tokens_per_second) == set(STREAMS)
    assert all(rate > 0 for rate in result.decode_tokens_per_second.values())
    assert all(rate > 0 for rate in result.streams_tokens_per_second.values())
    assert result.prefill_tokens_per_second > 0
    assert result.load_s > 0
    assert 0 < result.prefill_tokens < 128
    assert result.program_bytes == (small_model_slots / "model.pte").stat().st_size
    assert result.kv_cache_bytes == manifest.shape.kv_cache_bytes(128, 3, bits=32)
    assert result.peak_rss_bytes
    assert result.peak_rss_bytes > result.program_bytes
    assert (result.recipe, result.context, result.slots, result.threads) == ("fp32", 128, 3, 2)
    assert result.machine == cpu_name() != ""
    assert result.instructions == chosen().title
    assert f"{cpu_name()}, {chosen().title}, 2 threads" in str(result)
    measured = [status.progress for status in told if status.state == "working"]
    assert measured == [step / (3 + len(STREAMS)) for step in range(3 + len(STREAMS))]
    assert result.memory_bytes_per_second > 1e9
    assert result.products_per_second > 1e9
    read = sum(manifest.parts[part] for part in ("attention", "mlp", "norms", "head")) + 48 * 2 * 2 * 2 * 16 * 4
    assert result.decode_shares[16] == pytest.approx(
        result.decode_tokens_per_second[16] * read / result.memory_bytes_per_second
    )
    assert result.prefill_share is None, "products of floats are not those that were measured"


def test_the_machine_is_taken_to_be_as_fast_as_it_was_at_best(
    small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = itertools.chain([Ceilings(2e9, 9e9), Ceilings(7e9, 3e9)], itertools.repeat(Ceilings(1e9, 1e9)))
    monkeypatch.setattr("falcon_runtime.engine.ceilings.measure", lambda threads: next(seen))
    result = measure(str(small_model), threads=1, rounds=1)
    assert (result.memory_bytes_per_second, result.products_per_second) == (7e9, 9e9)


def test_no_token_that_ends_an_answer_is_chosen(small_model: Path) -> None:
    manifest = read_manifest(small_model)
    with FalconRuntime(str(small_model)) as runtime:
        answers = []
        for _ in range(2):
            meter = Meter(runtime, manifest)
            answers.append([t for chunk in runtime.generate("once", meter.answer) for t in chunk.token_ids])
            manifest = manifest.model_copy(update={"end_tokens": tuple(set(answers[0]))})
    assert len(answers[0]) == len(answers[1]) == DECODED
    assert not set(answers[0]) & set(answers[1])


def test_prompts_have_the_wanted_length_and_begin_alike(small_model: Path) -> None:
    with FalconRuntime(str(small_model)) as runtime:
        meter = Meter(runtime, read_manifest(small_model))
        short, long = meter.prompt(16), meter.prompt(200)
        assert long.startswith(short)
        for text, wanted in ((short, 16), (long, 200), (meter.prompt(PREFILLED), 255)):  # The context is 256.
            assert wanted - 10 < len(runtime.tokenize(text)) <= wanted
        assert meter.contexts == [tokens for tokens in CONTEXTS if tokens + DECODED <= 256]


def test_a_prompt_is_read_afresh_each_time(small_model: Path) -> None:
    with FalconRuntime(str(small_model)) as runtime:
        meter = Meter(runtime, read_manifest(small_model))
        assert meter.prefill() > 0
        assert meter.prefill() > 0  # With all of it in the cache but the last slice, too.


def test_the_command_prints_json_or_a_table(small_model: Path) -> None:
    flags = ["bench", "--model", str(small_model), "--rounds", "1"]
    done = run(*flags, "--json", models_dir=small_model.parent)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {field.name for field in fields(Benchmark)}
    assert result["decode_tokens_per_second"].keys() == {"16"}
    known = {"decode_tokens_per_second": {16: 12.34}, "decode_shares": {16: 0.5}, "peak_rss_bytes": None}
    table = str(Benchmark(**result | known))
    for words in ("fp32, 256 tokens of context in 1 slot", "12.3 tok/s, 50%", "unknown", result["machine"]):
        assert words in table


def test_a_token_costs_a_forward(small_model: Path) -> None:
    """However much the text repeats itself: guessed tokens would make the rates depend on the text."""
    with FalconRuntime(str(small_model)) as runtime:
        *_, last = runtime.generate("and on and on and on", Meter(runtime, read_manifest(small_model)).answer)
    assert last.stats.accepted_tokens == 0


@pytest.mark.parametrize("rounds", ["0", "-1"])
def test_rounds_must_be_positive(call: Call, small_model: Path, rounds: str) -> None:
    done = call("bench", "--model", str(small_model), "--rounds", rounds, models_dir=small_model.parent)
    assert done.returncode == 2
    assert f"--rounds: it must be at least 1, not {rounds}" in done.stderr


def test_the_share_of_products_is_that_of_all_layers(small_checkpoint: Path, tmp_path: Path) -> None:
    result = measure(str(convert(str(small_checkpoint), tmp_path, "int8", slots=1)), threads=1, rounds=1)
    products = 2 * (64 * 128 + 64 * 64 + 2 * 128 * 64 + 128 * 64)
    share = result.prefill_tokens_per_second * products / result.products_per_second
    assert result.prefill_share == pytest.approx(share)
    assert f"{share:.0%} of the products" in str(result)
