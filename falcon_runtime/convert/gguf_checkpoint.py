"""A GGUF file as a checkpoint. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md"""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ..errors import ConversionFailed
from ..models.architecture import MAX_HEAD_DIM
from ..models.recommended import GGUF_KEYS
from .checkpoint import Checkpoint, tensor_shapes
from .gguf_header import BadHeader, StoredTensor, read_header
from .gguf_tokenizer import build_tokenizer, end_ids
from .llama_config import LlamaConfig, make_config

EMBEDDING, HEAD, ROPE_FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"
_NUMBERS = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
"""What is mapped as numbers; all else is bytes to `gguf.dequantize`."""
READABLE = "take the model as F16, BF16, Q8_0, Q4_0 or a K-quant"


class GgufCheckpoint(Checkpoint):
    def __init__(self, path: Path, source: str | None = None):
        """`source` is what it is called; None: by the file's name."""
        self.source, self.files = source or path.name, [path]
        self._metadata, tensors = _open(path)
        architecture = self._metadata.get("general.architecture")
        if architecture != "llama":
            named = f"{architecture!s:.100}"
            raise ConversionFailed(f"{self.source} is of architecture {named}. Only llama can be converted.")
        if (parts := self._number("split.count", 1)) > 1:
            raise ConversionFailed(
                f"{self.source} is one of {parts} parts: join them with llama-gguf-split --merge FIRST_PART MODEL.gguf "
                "and convert that."
            )
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self.config = self._read_config()
        self._tensors.pop(ROPE_FACTORS, None)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, self.config.num_hidden_layers)
        ours = {names.get_name(name, try_suffixes=(".weight",)): name for name in tensor_shapes(self.architecture)}
        if twice := self._tensors.keys() & ours.values():
            raise ConversionFailed(f"{self.source} has a tensor {min(twice)}, which is no name in a GGUF file.")
        self._tensors = {ours.get(name, name): tensor for name, tensor in self._tensors.items()}
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        self.check()
        for name in {tensor.kind: name for name, tensor in self._tensors.items()}.values():
            self._read(name, slice(1))
        self.end_ids = end_ids(self._metadata, self.config.vocab_size)
        given = {name: self._metadata.get(key) for key, name in GGUF_KEYS.items()}
        self.generation = {name: _shortest(v) if isinstance(v, float) else v for name, v in given.items()}
        kinds = {tensor.kind for name, tensor in self._tensors.items() if name.endswith("_proj.weight")}
        self.in_4_bits = not kinds.isdisjoint({GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1})
        self.has_offsets = not kinds.isdisjoint({GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q4_K})

    def _read(self, name: str, rows: slice) -> Tensor:
        tensor = self._tensors[name]
        if len(tensor.shape) == 1:
            return self._dequantized(tensor, np.array(self._mapped(tensor)))[rows]
        return self._dequantized(tensor, self._stored_rows(name, rows))

    def _dequantized(self, tensor: StoredTensor, rows: Any) -> Tensor:
        """Stored rows of a tensor in float32; each is quantized on its own."""
        try:
            values = gguf.dequantize(rows, tensor.kind)
        except NotImplementedError as error:
            raise ConversionFailed(
                f"{self.source} has tensors of type {tensor.kind.name}, which cannot be read: {READABLE}."
            ) from error
        return torch.from_numpy(np.require(values, np.float32, "W"))

    def _stored_rows(self, name: str, rows: slice) -> Any:
        """Rows of a tensor as they are in the file, copied: what is mapped stays in memory until it is closed."""
        data = self._mapped(self._tensors[name])
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            return data[_rotary_order(len(data), self.config.head_dim)[rows]]
        return np.array(data[rows])

    def _mapped(self, tensor: StoredTensor) -> Any:
        """A tensor in the file: numbers, or the bytes of each row's blocks."""
        if kind := _NUMBERS.get(tensor.kind):
            return np.memmap(self.files[0], kind, "r", tensor.offset, tensor.shape)
        return np.memmap(self.files[0], np.uint8, "r", tensor.offset, (*tensor.shape[:-1], tensor.row_bytes))

    def _load_tokenizer(self) -> PreTrainedTokenizerFast:
        return build_tokenizer(self._metadata, self.source)

    def _read_config(self) -> LlamaConfig:
        embedding, heads = self._tensors.get(EMBEDDING), self._number("llama.attention.head_count")
        settings = {
            "vocab_size": 1 if embedding is None else embedding.shape[0],  # `check` says if it is not there.
            "hidden_size": self._number("llama.embedding_length"),
            "intermediate_size": self._number("llama.feed_forward_length"),
            "num_hidden_layers": self._number("llama.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self._number("llama.attention.head_count_kv", heads),
            "head_dim": self._metadata.get("llama.attention.key_length"),
            "max_position_embeddings": self._number("llama.context_length"),
            "rms_norm_eps": _shortest(self._number("llama.attention.layer_norm_rms_epsilon")),
            "rope_parameters": self._rope(),
            "tie_word_embeddings": HEAD not in self._tensors,
        }
        config = make_config(self.source, settings)
        if self._number("llama.rope.dimension_count", config.head_dim) != config.head_dim:
            raise ConversionFailed(f"{self.source} rotates only a part of each head, which is not supported.")
        return config

    def _rope(self) -> dict[str, Any]:
        """What transformers calls `rope_parameters`."""
        theta = _shortest(self._number("llama.rope.freq_base", 10000.0))
        kind = self._metadata.get("llama.rope.scaling.type", "linear")
        scale = self._number("llama.rope.scaling.factor", self._number("llama.rope.scale_linear", 1.0))
        linear = kind == "linear" and scale not in (0, 1)
        factors = self._tensors.get(ROPE_FACTORS)
        if kind not in ("none", "linear") or (linear and factors is not None):
            raise ConversionFailed(f"{self.source} has RoPE scaling of type {kind!s:.100}, which is not supported.")
        if factors is not None:
            if len(factors.shape) > 1 or factors.shape[0] > MAX_HEAD_DIM:
                raise ConversionFailed(f"{self.source} has {ROPE_FACTORS} of the shape {list(factors.shape)}.")
            # Llama 3's scaling, each frequency's divisor written out: what transformers calls longrope.
            divisors = self._dequantized(factors, self._mapped(factors)).tolist()
            return {
                "rope_type": "longrope",
                "rope_theta": theta,
                "short_factor": divisors,
                "long_factor": divisors,
                "factor": 1.0,
                "attention_factor": 1.0,
                "original_max_position_embeddings": self._number("llama.context_length"),
            }
        if linear:
            return {"rope_type": "linear", "rope_theta": theta, "factor": scale}
        return {"rope_type": "default", "rope_theta": theta}

    def _number(self, key: str, default: int | float | None = None) -> Any:
        value = self._metadata.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ConversionFailed(
                f"{self.source} does not say {key}, or not one for all layers. Only a plain Llama can be read."
            )
        return value


def _open(path: Path) -> tuple[dict[str, Any], list[StoredTensor]]:
    """The metadata and the tensors, none of them read."""
    try:
        return read_header(path)
    except BadHeader as error:
        raise ConversionFailed(f"{path} {error}") from error
    except OSError as error:
        raise ConversionFailed(f"{path} cannot be read ({error.strerror}).") from error


def _rotary_order(rows: int, head_dim: int) -> Any:
    """Where the rows of a query or key projection lie in the file.

    llama.cpp rotates neighbours, transformers element i with element i + head_dim / 2: what the one keeps as (head,
    pair, side) is (head, side, pair) to the other (`permute` in llama.cpp's convert_hf_to_gguf.py).
    """
    return np.arange(rows).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).ravel()


def _shortest(value: float) -> float:
    """The decimal that was meant: 1e-05, and not the 9.999999747378752e-06 that float32 has made of it."""
    return float(str(np.float32(value)))
