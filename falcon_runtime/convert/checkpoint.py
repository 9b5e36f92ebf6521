"""What is read of a checkpoint, whatever its format: configuration, weights one tensor at a time, and tokenizer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..errors import ConversionFailed
from ..models.architecture import Architecture
from ..system.panics import no_panics
from .end_tokens import known_ends, no_end_after_text
from .llama_config import LlamaConfig, trained_context

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"

Shape = tuple[int, ...]


class Checkpoint(ABC):
    """The weights and the tokenizer of a Llama. Tensors bear Hugging Face's names, whatever the file calls them."""

    source: str
    """What it is called in errors: the name of the file or folder, or the repository and, after an @, the commit."""
    config: LlamaConfig
    files: list[Path]
    """What holds the weights. Those of a checkpoint on the hub are there once `stream` has reached them."""
    shapes: dict[str, Shape]
    """Of every tensor in them."""
    end_ids: set[int]
    """End-of-sequence tokens that are named elsewhere than in the tokenizer."""
    sentencepiece: Path | None = None
    """The SentencePiece model that it has its tokenizer from, where there is one."""
    generation: Mapping[str, Any] = {}
    """What the checkpoint recommends for generating, called as in generation_config.json."""
    in_4_bits = False
    """Whether the layers' weights are in 4 bits already, which the recipe int4 leaves as they are."""
    has_offsets = False
    """Whether such blocks have offsets."""

    @abstractmethod
    def _read(self, name: str, rows: slice) -> Tensor:
        """Rows of the stored tensor `name`, float32."""

    @abstractmethod
    def _load_tokenizer(self) -> PreTrainedTokenizerFast: ...

    def tensor(self, name: str, rows: slice = slice(None)) -> Tensor:
        """The tensor `name`, or some of its rows, in float32. Nothing else is brought into memory.

        Of a checkpoint whose files come and go, only the one that `stream` is at can be read.
        Errors: ConversionFailed where the file that holds it is not there, or was changed since it was opened.
        """
        return self._read(self._stored(name), rows)

    def stream(self) -> Iterator[str]:
        """The name of every stored tensor once, in the order in which they lie in the files.

        `tensor(name)` works while `name` is the last one given. A tied output layer is not stored: who wants it takes
        it while the embedding is current. A checkpoint on the hub is downloaded meanwhile, a file ahead.
        Errors: DownloadFailed, ConversionFailed.
        """
        yield from self.shapes

    def check(self) -> None:
        """Raises ConversionFailed unless the tensors are those of the Llama that `config` describes, and no others."""
        expected = tensor_shapes(self.architecture)
        for name in self.shapes:
            if name not in expected:
                raise ConversionFailed(
                    f"{self.source} has a tensor {name:.200}, which a Llama of {self.architecture.layers} layers "
                    "without biases does not have. Only LlamaForCausalLM checkpoints can be converted."
                )
        for name, shape in expected.items():
            found = self.shapes.get(self._stored(name))
            if found is None:
                raise ConversionFailed(f"{self.source} lacks the tensor {name}. Download the checkpoint again.")
            if found != shape:
                raise ConversionFailed(
                    f"The tensor {name} of {self.source} has the shape {list(found)!s:.200}, and {list(shape)} is what "
                    "its configuration says. Download the checkpoint again."
                )

    def end_tokens(self) -> list[int]:
        """Every token that ends an answer, sorted: the tokenizer's, those that the checkpoint names elsewhere, and what
        families of models end turns and texts with."""
        own = {self.tokenizer.eos_token_id} - {None}
        return sorted(self.end_ids | own | known_ends(self.tokenizer))

    def save_tokenizer(self, folder: Path) -> None:
        """Writes the tokenizer, chat template included, for `AutoTokenizer.from_pretrained(folder)`."""
        self.tokenizer.save_pretrained(folder)

    @property
    def max_context(self) -> int:
        """The longest context that the model can be given, in tokens."""
        return trained_context(self.config)

    @cached_property
    def architecture(self) -> Architecture:
        config = self.config
        return Architecture(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            intermediate=config.intermediate_size,
            vocabulary=config.vocab_size,
            rms_norm_eps=config.rms_norm_eps,
            tied=config.tie_word_embeddings,
        )

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Errors: ConversionFailed where it cannot be read."""
        try:
            with no_panics():
                return no_end_after_text(self._load_tokenizer())
        except ConversionFailed:
            raise
        except Exception as error:  # transformers and tokenizers raise many kinds, bare Exception among them
            raise ConversionFailed(
                f"The tokenizer of {self.source} cannot be read ({error!s:.300}). Download the checkpoint again."
            ) from error

    def _stored(self, name: str) -> str:
        return EMBEDDING if name == HEAD and self.config.tie_word_embeddings else name


def tensor_shapes(llama: Architecture) -> dict[str, Shape]:
    """Every tensor of a LlamaForCausalLM and its shape, a linear layer's being [out, in]."""
    hidden, mlp = llama.hidden, llama.intermediate
    queries, keys = llama.heads * llama.head_dim, llama.kv_heads * llama.head_dim
    layer: dict[str, Shape] = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (mlp, hidden),
        "mlp.up_proj": (mlp, hidden),
        "mlp.down_proj": (hidden, mlp),
    }
    shapes: dict[str, Shape] = {EMBEDDING: (llama.vocabulary, hidden)}
    for i in range(llama.layers):
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    return shapes | {"model.norm.weight": (hidden,), HEAD: (llama.vocabulary, hidden)}
