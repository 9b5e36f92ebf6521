"""Models for ExecuTorch's own runtimes: what the files compute and say of themselves, and what is around them."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import LlamaForCausalLM

from falcon_runtime.convert import convert
from falcon_runtime.convert.opening import open_checkpoint
from falcon_runtime.convert.request import read_request
from falcon_runtime.convert.stock.check import check_program
from falcon_runtime.convert.stock.constants import constant_methods
from falcon_runtime.convert.stock.filling import filled
from falcon_runtime.convert.stock.graph import stock_graph
from falcon_runtime.convert.stock.llama import Llama
from falcon_runtime.convert.stock.modules import make_embedding, make_linear
from falcon_runtime.convert.stock.quantize import stock_parts
from falcon_runtime.convert.stock.schemes import (
    INT4,
    INT4_TABLE,
    INT8,
    INT8_ROTATED,
    StockScheme,
    blocks,
    stock_schemes,
)
from falcon_runtime.convert.stock.trial import TEXTS as TRIED
from falcon_runtime.errors import ConversionFailed
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.exported import parse_exported
from falcon_runtime.models.manifest import RecipeName

from ..kept import CONVERTER, SMALL_MODELS, cache_of, made_once
from ..small_models import save_checkpoint
from .conftest import TEXTS, random_llama

CONTEXT, BOUND = 280, 256
"""Tokens that a sequence and a forward may have."""
TOKENS = [i * i % 90 for i in range(CONTEXT)]
PRINTABLE = 94
"""The first tokens of the small tokenizer are what ASCII prints."""
SLOW = pytest.mark.slow
KEPT = cache_of(*CONVERTER, *SMALL_MODELS, Path(__file__))


class Kind(NamedTuple):
    recipe: RecipeName
    tied: bool
    """Whether the output layer is the embedding."""
    layers: int


KINDS = {
    "fp32": Kind("fp32", False, 3),
    "int8": Kind("int8", True, 3),
    "int4": Kind("int4", False, 3),
    "fp32 of one layer": Kind("fp32", True, 1),
}
"""What is converted."""


def llama(kind: Kind) -> LlamaForCausalLM:
    """One that answers in whole characters."""
    model = random_llama(num_hidden_layers=kind.layers, tie_word_embeddings=kind.tied, max_position_embeddings=512)
    model.lm_head.weight.data[PRINTABLE:] = 0
    return model


def source(kind: Kind) -> Path:
    name = f"checkpoint-{kind.layers}{'-tied' * kind.tied}"
    return made_once(KEPT / name, lambda folder: save_checkpoint(llama(kind), folder))


def converted(name: str) -> Path:
    kind = KINDS[name]

    def make(folder: Path) -> None:
        convert(str(source(kind)), folder.parent, kind.recipe, context=CONTEXT, output=folder, target="stock")

    return made_once(KEPT / name, make)


class Program:
    """A .pte in ExecuTorch's own Python binding."""

    def __init__(self, folder: Path):
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401
        from executorch.extension.pybindings.portable_lib import _load_for_executorch
        from executorch.kernels import quantized  # noqa: F401

        self._program = _load_for_executorch(str(folder / "model.pte"))

    def __call__(self, tokens: Sequence[int], position: int) -> np.ndarray:
        (logits,) = self._program.forward((torch.tensor([tokens]), torch.tensor([position])))
        return logits.numpy()[0].copy()

    def constant(self, name: str) -> Any:
        values = self._program.run_method(name, ())
        return values[0] if name != "get_eos_ids" else list(values)


def logits_of(model: LlamaForCausalLM, tokens: Sequence[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0, -1].numpy()


@pytest.mark.parametrize("kind", ["fp32", "fp32 of one layer"])
def test_logits_are_those_of_transformers(kind: str) -> None:
    program, reference = Program(converted(kind)), llama(KINDS[kind])
    position = 0
    for count in (1, 20, 1, 7, BOUND - 5):  # Up to the last position of the context.
        found = program(TOKENS[position : position + count], position)
        position += count
        np.testing.assert_allclose(found, logits_of(reference, TOKENS[:position]), atol=1e-4)
    found = program([1, 2, 3], 10)  # Back, and on in another way.
    np.testing.assert_allclose(found, logits_of(reference, [*TOKENS[:10], 1, 2, 3]), atol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_quantized_file_computes_its_recipe(kind: str) -> None:
    program, eager = Program(converted(kind)), module(kind)
    lengths = range(1, 20)
    with torch.no_grad():
        expected = np.stack([eager(torch.tensor([TOKENS[:n]]), torch.tensor([0]))[0].numpy() for n in lengths])
    found = np.stack([program(TOKENS[:n], 0) for n in lengths])
    # A value on the edge between two integers may fall to either side.
    assert np.abs(found - expected).mean() < 0.01 * expected.std()


def module(kind: str) -> Llama:
    """What the file computes, in torch."""
    checkpoint = open_checkpoint(source(KINDS[kind]))
    return filled(checkpoint, stock_schemes(KINDS[kind].recipe, checkpoint.architecture), CONTEXT)


@SLOW
@pytest.mark.parametrize("kind", ["fp32", "int8", "int4"])
def test_a_file_is_what_an_exporter_makes_of_the_same_module(kind: str, tmp_path: Path) -> None:
    """Written as files are, or traced and lowered as a whole."""
    from ..stock_models import export_module

    eager, shape = module(kind), open_checkpoint(source(KINDS[kind])).architecture
    constants = constant_methods(shape, CONTEXT, None, (256,))
    lengths = {1: torch.export.Dim("n", min=1, max=BOUND)}, None
    example = torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    export_module(tmp_path / "model.pte", eager, example, lengths, constants)
    exported, written = Program(tmp_path), Program(converted(kind))
    assert {name: written.constant(name) for name in constants} == constants
    assert {name: exported.constant(name) for name in constants} == constants
    position = 0
    for count in (1, 20, 1, 7, BOUND - 5):
        tokens = TOKENS[position : position + count]
        found, expected = written(tokens, position), exported(tokens, position)
        position += count
        assert np.abs(found - expected).mean() < (1e-5 if kind == "fp32" else 0.01) * expected.std()


def test_no_two_models_have_a_key_in_common() -> None:
    """A process that has both would take the weights of one for the other's."""
    shape = open_checkpoint(source(KINDS["int4"])).architecture
    constants = constant_methods(shape, CONTEXT, None, ())
    one, other = (
        stock_graph(shape, stock_schemes("int4", shape), CONTEXT, constants, identity).named for identity in "ab"
    )
    assert len(one) == len(other)
    for key in one.keys() & other.keys():
        assert isinstance(one[key], bytes)
        assert one[key] == other[key]


def test_a_large_program_is_tried_by_its_first_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[np.ndarray]()

    def look(folder: Path, title: str) -> None:
        check_program(folder, title)
        tried.append(Program(folder)(TOKENS[:20], 0))

    monkeypatch.setattr("falcon_runtime.convert.stock.folder.check_program", look)
    monkeypatch.setattr("falcon_runtime.convert.stock.program.TRIED_BYTES", 0)
    kind = KINDS["fp32"]
    folder = convert(str(source(kind)), tmp_path, kind.recipe, context=64, output=tmp_path / "model", target="stock")
    reference = llama(kind)
    whole = logits_of(reference, TOKENS[:20])
    reference.model.layers = reference.model.layers[:2]
    np.testing.assert_allclose(tried, [logits_of(reference, TOKENS[:20])], atol=1e-4)
    np.testing.assert_allclose(Program(folder)(TOKENS[:20], 0), whole, atol=1e-4)
    assert all(path.is_file() for path in folder.iterdir())


@pytest.mark.parametrize(("scheme", "most"), [(INT8, 0.015), (INT8_ROTATED, 0.015), (INT4, 0.09)], ids=str)
def test_a_layer_is_near_its_weight(scheme: StockScheme, most: float) -> None:
    random = torch.Generator().manual_seed(0)
    weight, inputs = (0.5 + torch.randn(rows, 128, generator=random) for rows in (32, 20))
    layer = make_linear(32, 128, scheme)
    load(layer, weight, scheme)
    with torch.no_grad():
        found, expected = layer(inputs.view(1, 20, *blocks(scheme, 128)))[0], inputs @ weight.T
    assert (found - expected).norm() < most * expected.norm()


@pytest.mark.parametrize(("scheme", "most"), [(INT8_ROTATED, 0.01), (INT4_TABLE, 0.09)], ids=str)
def test_an_embedding_is_near_its_weight(scheme: StockScheme, most: float) -> None:
    weight = torch.randn(32, 128, generator=torch.Generator().manual_seed(0))
    table = make_embedding(32, 128, scheme)
    load(table, weight, scheme)
    assert (table(torch.arange(32)[None])[0] - weight).norm() < most * weight.norm()


def load(module: torch.nn.Module, weight: torch.Tensor, scheme: StockScheme) -> None:
    parameters = dict(module.named_parameters())
    for name, _, part in stock_parts(weight, scheme, 0):
        parameters[name].data.copy_(part)


@pytest.mark.parametrize("kind", ["fp32", "int4"])
def test_what_a_file_says_of_itself_is_what_it_takes(kind: str) -> None:
    program = Program(converted(kind))
    said = {name: program.constant(name) for name in ("get_max_seq_len", "get_max_context_len", "get_eos_ids")}
    assert said == {"get_max_seq_len": BOUND, "get_max_context_len": CONTEXT, "get_eos_ids": [256]}
    assert (program.constant("get_n_layers"), program.constant("get_vocab_size")) == (KINDS[kind].layers, 320)
    for name in ("use_kv_cache", "use_sdpa_with_kv_cache", "enable_dynamic_shape"):
        assert program.constant(name) is True
    whole = program(TOKENS[:BOUND], 0)
    with pytest.raises(RuntimeError):
        program(TOKENS[: BOUND + 1], 0)
    program(TOKENS[BOUND:], BOUND)
    with pytest.raises(RuntimeError):
        program([1], CONTEXT)
    np.testing.assert_allclose(program(TOKENS[:BOUND], 0), whole, atol=1e-5)


def test_the_folder_is_what_an_app_needs() -> None:
    folder = converted("int4")
    assert {path.name for path in folder.iterdir()} >= {
        *("model.pte", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
        *("generation_config.json", "README.md", "export.json"),
    }
    assert not (folder / "manifest.json").exists()
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [256]
    facts = parse_exported(folder)
    assert (facts.target, facts.recipe, facts.context) == ("stock", "int4", CONTEXT)
    assert facts.program_bytes == (folder / "model.pte").stat().st_size
    text = (folder / "README.md").read_text()
    for words in ("## Android", "## iOS", "## Linux", "Licence", f"{CONTEXT} tokens"):
        assert words in text


def test_a_file_has_no_more_than_its_weights() -> None:
    """The tied output layer is stored once."""
    shape = open_checkpoint(source(KINDS["int8"])).architecture
    weights = stock_schemes("int8", shape).bytes(shape)
    assert 0 < (converted("int8") / "model.pte").stat().st_size - weights < 200_000


def phone(path: Path) -> Any:
    from pytorch_tokenizers import pytorch_tokenizers_cpp

    tokenizer = pytorch_tokenizers_cpp.HFTokenizer()
    tokenizer.load(str(path))
    return tokenizer


def test_the_phones_tokenizer_reads_the_starters(starter_models_dir: Path) -> None:
    path = starter_models_dir / STARTER.name / "tokenizer.json"
    ours, theirs = Tokenizer.from_file(str(path)), phone(path)
    for text in (*TEXTS, *TRIED, "<|im_start|>user\nHi<|im_end|>\n"):
        assert list(theirs.encode(text, 0, 0)) == ours.encode(text, add_special_tokens=False).ids, text


def test_a_tokenizer_that_a_phone_reads_otherwise_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(source(KINDS["fp32"]), tmp_path / "checkpoint"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    digits, to_bytes = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), tokenizer.pre_tokenizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, to_bytes])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ConversionFailed, match=r"its tokenizer turns .*, not into .* Nothing is kept"):
        convert(str(folder), tmp_path, "fp32", context=64, output=tmp_path / "model", target="stock")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", ".model.lock"}


def test_a_program_that_does_not_load_is_found_by_trying_it(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(converted("fp32"), tmp_path / "model"))
    content = (folder / "model.pte").read_bytes()
    (folder / "model.pte").write_bytes(content[: len(content) // 2])
    with pytest.raises(ConversionFailed, match="would not run on a phone"):
        check_program(folder, "The model")


def test_names_and_flags(tmp_path: Path) -> None:
    assert read_request(STARTER.name, tmp_path, target="stock").output == tmp_path / f"{STARTER.name}-stock"
    named = read_request(f"{STARTER.name}:int8", tmp_path, target="stock")
    assert named.output == tmp_path / f"{STARTER.name}-int8-stock"
    for options in ({"slots": 2}, {"cache": 8}):
        with pytest.raises(ConversionFailed, match="leave --slots and --cache out"):
            read_request(STARTER.name, tmp_path, target="stock", **options)  # type: ignore[arg-type]


def test_a_folder_of_another_source_is_not_replaced(tmp_path: Path) -> None:
    output = Path(shutil.copytree(converted("fp32"), tmp_path / "model"))
    with pytest.raises(ConversionFailed, match="holds a model that was converted from"):
        convert(str(source(KINDS["int8"])), tmp_path, "fp32", output=output, target="stock")
    assert parse_exported(output).recipe == "fp32"
