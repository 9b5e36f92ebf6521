"""What is told of somebody else's program before anything of it runs."""

import base64
import io
import os
import shutil
from contextlib import suppress
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer

from falcon_runtime.errors import FalconError, ModelDamaged, TokenizerError, UnknownModel, UnsupportedProgram
from falcon_runtime.models.library import choices, converted_models, find_model, passed_over
from falcon_runtime.models.manifest import MANIFEST
from falcon_runtime.models.reading import read_model
from falcon_runtime.models.stock.contract import contract_of
from falcon_runtime.models.stock.manifest import StockManifest, read_stock
from falcon_runtime.models.stock.program_file import read_program
from falcon_runtime.models.stock.tokenizer import tokenizer_folder
from falcon_runtime.text.tokenizer import load_tokenizer

from ..stock_programs import NAME, copied, patched, stock_program

LONG = "int64"


@pytest.mark.parametrize(
    ("name", "contract"),
    [
        ("exporter", (True, (LONG, LONG), (1,), 63, False, False, 128, 320, True)),
        ("exporter-static", (True, (LONG, LONG), (1,), 1, True, True, 128, 320, True)),
        ("exporter-8da4w", (True, (LONG, LONG), (1,), 63, False, False, 128, 320, True)),
        ("ring", (True, (LONG, LONG), (1,), 16, False, False, 128, 320, False)),
        ("positions", (True, (LONG, LONG), (63,), 63, False, True, 128, 320, True)),
        ("eight", (True, (LONG, LONG), (8,), 8, True, True, 128, 320, True)),
        ("whole-text", (False, (LONG,), (), 63, False, True, 63, 320, True)),
    ],
)
def test_how_a_program_is_called_is_told_from_its_graph(name: str, contract: tuple[object, ...]) -> None:
    model = read_stock(stock_program(name))
    assert astuple(model.contract) == contract
    assert (model.end_tokens, model.name, model.backend) == ((256,), name, "xnnpack")
    assert model.method.backends == ("XnnpackBackend",)
    assert ("llama::custom_sdpa.out" in model.method.operators) == model.contract.cached
    assert 700_000_000 < model.memory_bytes < 710_000_000
    assert (model.remarks == ()) == (name not in ("ring", "whole-text"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pictures", r"is no language model: forward takes float32 \[1, 3, 4, 4\]"),
        ("callers-cache", "has its KV cache passed in and out: forward takes 3 tensors and returns 2"),
        ("qualcomms", "called in another way, by kv_forward and prefill_forward, as Qualcomm's"),
    ],
)
def test_what_is_no_language_model_is_told(name: str, words: str) -> None:
    with pytest.raises(UnsupportedProgram, match=words):
        read_stock(stock_program(name))


def test_a_program_that_takes_nothing_is_no_language_model() -> None:
    program = read_program(stock_program("exporter") / NAME)
    constant = next(method for method in program.methods if method.constant)
    outputs = next(method for method in program.methods if method.name == "forward").outputs
    nothing = replace(constant, name="forward", outputs=outputs)
    with pytest.raises(UnsupportedProgram, match="forward takes nothing"):
        contract_of(replace(program, methods=(nothing,)))


def test_programs_of_others_and_no_programs_are_told(tmp_path: Path, small_model: Path) -> None:
    other = patched("exporter", tmp_path / "other", b"ET12", b"ET11")
    with pytest.raises(UnsupportedProgram, match=r"made for another ExecuTorch: its format is ET11.*is ET12\. Export"):
        read_stock(other)
    (other / NAME).write_bytes(b"not a program at all")
    with pytest.raises(UnsupportedProgram, match="is not an ExecuTorch program"):
        read_stock(other)
    packed = Path(shutil.copytree(small_model, tmp_path / "packed"))
    (packed / MANIFEST).unlink()
    with pytest.raises(UnsupportedProgram, match=r"packed by this project, and the manifest\.json.*is missing"):
        read_model(packed)


def test_a_file_that_is_cut_or_altered_is_an_error_at_worst(tmp_path: Path) -> None:
    folder = copied("exporter", tmp_path / "model")
    program = folder / NAME
    whole = program.read_bytes()
    for size in (0, 3, 8, 31, 100, 5000, len(whole) // 2, len(whole) - 5000):
        program.write_bytes(whole[:size])
        with pytest.raises(UnsupportedProgram if size < 8 else ModelDamaged):
            read_stock(folder)
    begins = int.from_bytes(whole[:4], "little")
    for i in range(90):
        altered, place = bytearray(whole), (i * 7919) % 30_000 if i % 2 else begins + i
        altered[place : place + 4] = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\x10\x00\x00\x00")[i // 3 % 3]
        program.write_bytes(altered)
        with suppress(FalconError):
            read_stock(folder)
    program.unlink()
    os.mkfifo(program)
    with pytest.raises(UnknownModel, match=r"no program \(.pte\)"):
        read_stock(folder)
    with pytest.raises(ModelDamaged, match="not a regular file"):
        read_program(program)


def test_one_program_is_a_model(tmp_path: Path) -> None:
    folder = copied("exporter", tmp_path / "falcon3_7b_instruct")
    (folder / "stock.json").write_text('{"slots": 3}')
    model = read_model(folder)
    assert isinstance(model, StockManifest)
    assert (model.slots, model.title) == (3, "falcon3_7b_instruct")
    (folder / "stock.json").write_text('{"slots": 0}')
    with pytest.raises(ModelDamaged, match=r"stock\.json: slots:.*greater than or equal to 1"):
        read_model(folder)
    (folder / "stock.json").unlink()
    (folder / "weights.ptd").write_bytes(b"no weights at all")
    with pytest.raises(ModelDamaged, match="is not a file of weights"):
        read_model(folder)
    (folder / "weights.ptd").write_bytes(b"\0\0\0\0FT01")
    assert read_stock(folder).program_bytes == (folder / NAME).stat().st_size + 8
    shutil.copy(folder / NAME, folder / "another.pte")
    with pytest.raises(UnsupportedProgram, match=r"several \.pte files \(another\.pte, small_llama\.pte\)"):
        read_model(folder)


def test_a_folder_of_somebody_elses_is_one_of_the_models(tmp_path: Path) -> None:
    folder = copied("exporter", tmp_path / "falcon3_7b_instruct")
    (tmp_path / "empty").mkdir()
    assert converted_models(tmp_path) == ["falcon3_7b_instruct"]
    assert list(passed_over(tmp_path)) == ["empty"]
    for named in (folder.name, str(folder), str(folder / NAME)):
        found = find_model(named, tmp_path)
        assert (found.name, found.folder, found.needs_provisioning) == (folder.name, folder, False)
    choice = choices(tmp_path)[-1]
    assert (choice.name, choice.recipe, choice.converted, choice.slots, choice.context, choice.parameters) == (
        folder.name,
        "stock",
        True,
        1,
        128,
        0,
    )


def test_end_tokens_are_looked_for_in_one_place_after_another(tmp_path: Path) -> None:
    folder = patched("exporter", tmp_path / "model", b"get_eos_ids", b"get_eox_ids")
    generation = folder / "generation_config.json"
    generation.write_text('{"eos_token_id": [7, 300, 9999], "temperature": 0.7}')
    model = read_stock(folder)
    assert (model.end_tokens, model.sampling) == ((7, 300), {"temperature": 0.7})
    generation.unlink()
    assert read_stock(folder).end_tokens == (256,)  # "<|end|>", by its name.
    assert read_stock(stock_program("whole-text")).end_tokens == (256,)  # get_eos_id


def test_a_tokenizer_of_another_vocabulary_does_not_go_with_it(tmp_path: Path) -> None:
    folder = copied("exporter", tmp_path / "model")
    assert len(load_tokenizer(folder, read_stock(folder))) == 260  # Fewer than there are logits, as usual.
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"token {i}" for i in range(100)])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(TokenizerError, match=r"it has a token 359, the model 320"):
        load_tokenizer(folder, read_stock(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"has no tokenizer\. Put the model's own beside the program"):
        load_tokenizer(folder, read_stock(folder))


def test_llama_3s_tiktoken_file_is_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tokens = [bytes([byte]) for byte in range(256)] + [b"He", b"ll", b"Hell", b"Hello", b" w", "é".encode()]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]
    (tmp_path / "tokenizer.model").write_text("\n".join(lines))
    made = tokenizer_folder(tmp_path)
    tokenizer = Tokenizer.from_file(str(made / "tokenizer.json"))
    begin = len(tokens)
    assert tokenizer.encode("Hello wé!").ids == [begin, 259, 260, 261, ord("!")]
    assert tokenizer.encode("Help<|eot_id|>", add_special_tokens=False).ids == [256, ord("l"), ord("p"), begin + 9]
    assert tokenizer.decode([259, 260, 261]) == "Hello wé"
    assert tokenizer.get_vocab_size() == len(tokens) + 256
    assert tokenizer_folder(tmp_path) == made
    (tmp_path / "tokenizer.model").write_text("\n".join(lines[1:]))
    with pytest.raises(TokenizerError, match="its tokens are not all there"):
        tokenizer_folder(tmp_path)


def test_a_sentencepiece_model_is_a_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = copied("exporter", tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    file = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["hello there", "hello you", "there you are"] * 3),
        model_writer=file,
        vocab_size=290,
        hard_vocab_limit=False,
        byte_fallback=True,
        model_type="bpe",
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(file.getvalue())
    model = read_stock(folder)
    tokenizer, expected = load_tokenizer(folder, model), SentencePieceProcessor(model_proto=file.getvalue())
    for text in ("hello there", "you é\n"):
        assert tokenizer.encode(text) == [expected.bos_id(), *expected.encode(text)]
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    (folder / "tokenizer.model").write_bytes(b"\x0a\xff")
    with pytest.raises(TokenizerError, match=r"tokenizer\.model is not a SentencePiece model, or damaged"):
        load_tokenizer(folder, read_stock(folder))
