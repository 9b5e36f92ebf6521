"""Programs as others export them, made of the small Llama: by ExecuTorch's own exporter, and of modules of one's own.
Apart from the fixtures, for to import this takes seconds."""

import gc
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import executorch.extension.llm.custom_ops.custom_ops  # noqa: F401  Makes the operators known to torch.
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.extension.llm.export.config.llm_config import LlmConfig, ModelType
from transformers import LlamaForCausalLM

from .small_models import small_llama

CONTEXT, BOUND = 128, 63
"""Tokens that the caches hold, and that one call takes where shapes are dynamic: the exporter takes one less than asked
for."""
META_NAMES = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "lm_head": "output",
    "model.layers": "layers",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""What the parts of a Llama are called in Meta's checkpoints, which the exporter reads."""


def export_llm(path: Path, **sections: Mapping[str, Any]) -> None:
    """The small Llama through ExecuTorch's exporter; `sections` are parts of its configuration."""
    from executorch.examples.models.llama.export_llama_lib import export_llama

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as checkpoint:
        weights, params = Path(checkpoint) / "small.pth", Path(checkpoint) / "params.json"
        llama = small_llama()
        torch.save(_meta_weights(llama), weights)
        params.write_text(json.dumps(_meta_params(llama)))
        config = LlmConfig()
        config.base.model_class = ModelType.llama3_2
        config.base.checkpoint, config.base.params = str(weights), str(params)
        config.base.metadata = '{"get_bos_id": 0, "get_eos_ids": [256]}'
        config.model.use_kv_cache = config.model.use_sdpa_with_kv_cache = True
        config.backend.xnnpack.enabled = True
        config.export.max_seq_length, config.export.max_context_length = BOUND + 1, CONTEXT
        config.export.output_name = str(path)  # Taken as a path, for it ends in .pte.
        for section, values in sections.items():
            for key, value in values.items():
                setattr(getattr(config, section), key, value)
        export_llama(config)


def _meta_weights(llama: LlamaForCausalLM) -> dict[str, torch.Tensor]:
    def renamed(name: str) -> str:
        for theirs, metas in META_NAMES.items():
            name = name.replace(theirs, metas)
        return name

    return {renamed(name): weight.clone() for name, weight in llama.state_dict().items()}


def _meta_params(llama: LlamaForCausalLM) -> dict[str, Any]:
    config = llama.config
    return {
        "dim": config.hidden_size,
        "n_layers": config.num_hidden_layers,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
        "hidden_dim": config.intermediate_size,
        "norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_parameters["rope_theta"],
        "use_hf_rope": True,
        "use_scaled_rope": False,
    }


class Cached(torch.nn.Module):
    """The small Llama as somebody writes it down who wants a position for each token and the logits of all: tokens [1,
    S], positions [S]."""

    def __init__(self) -> None:
        super().__init__()
        llama = small_llama()
        config = self.config = llama.config
        self.embedding, self.layers = llama.model.embed_tokens, llama.model.layers
        self.norm, self.head = llama.model.norm, llama.lm_head
        angles = torch.outer(torch.arange(CONTEXT).float(), llama.model.rotary_emb.inv_freq).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for i in range(config.num_hidden_layers):
            for name in ("keys", "values"):
                cache = torch.zeros(1, CONTEXT, config.num_key_value_heads, config.head_dim)
                self.register_buffer(f"{name}_{i}", cache)

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        count, start = tokens.shape[1], positions[0].item()
        for holds in (start >= 0, start < CONTEXT, start + count <= CONTEXT):
            torch._check(holds)
        x = self.embedding(tokens)
        for i, layer in enumerate(self.layers):
            y = layer.input_layernorm(x)
            q, k, v = (
                project(y).view(1, count, -1, self.config.head_dim)
                for project in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
            )
            keys, values = getattr(self, f"keys_{i}"), getattr(self, f"values_{i}")
            torch.ops.llama.update_cache(self._rotated(k, start), keys, start)
            torch.ops.llama.update_cache(v, values, start)
            attended = torch.ops.llama.custom_sdpa(self._rotated(q, start), keys, values, start, None, 0, True)
            x = x + layer.self_attn.o_proj(attended.reshape(1, count, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.head(self.norm(x))

    def _rotated(self, x: torch.Tensor, start: int) -> torch.Tensor:
        count, half = x.shape[1], x.shape[-1] // 2
        cos, sin = (table.narrow(0, start, count)[None, :, None] for table in (self.cos, self.sin))
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class WholeText(torch.nn.Module):
    """The small Llama without a cache: tokens [1, S], logits of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_llama()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner(input_ids=tokens, use_cache=False).logits


class CallersCache(torch.nn.Module):
    """No model, but called like those whose caller holds the cache."""

    def forward(
        self, tokens: torch.Tensor, position: torch.Tensor, cache: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return tokens.float() @ cache[0], cache + position.float()


class Pictures(torch.nn.Module):
    """No language model."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 10)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.layer(picture)


class Bigrams(torch.nn.Module):
    """A table with the logits that follow each token: as little as can be called a language model."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(320, 320, _weight=torch.arange(320.0 * 320).reshape(320, 320))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table(tokens)


def export_module(
    path: Path,
    module: torch.nn.Module | dict[str, torch.nn.Module],
    inputs: tuple[torch.Tensor, ...],
    dynamic: Any = None,
    constants: Mapping[str, Any] | None = None,
    weights_apart: bool = False,
) -> None:
    """A module, or several as methods by their names, lowered for XNNPACK; its weights may be in a file of their
    own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    methods = module if isinstance(module, dict) else {"forward": module}
    with torch.no_grad():
        exported = {
            name: torch.export.export(one.eval(), inputs, dynamic_shapes=dynamic, strict=False)
            for name, one in methods.items()
        }
    lowered = to_edge_transform_and_lower(
        exported,
        partitioner=[XnnpackPartitioner()],
        constant_methods=dict(constants or {}),
        compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True),
    )
    program = lowered.to_executorch(ExecutorchBackendConfig(external_constants=weights_apart))
    with path.open("wb") as file:
        program.write_to_file(file)
    if weights_apart:
        program.write_tensor_data_to_file(str(path.parent))


LENGTH = torch.export.Dim("length", min=2, max=BOUND)
TOKENS, POSITIONS = torch.zeros(1, 8, dtype=torch.long), torch.arange(8)
CONSTANTS = {"get_max_seq_len": CONTEXT, "get_eos_id": 256}
OPTIMUM = CONSTANTS | {
    **{"get_dtype": 6, "get_bos_id": 1, "get_head_dim": 16.0, "get_n_kv_heads": 2, "get_n_layers": 2},
    **{"get_vocab_size": 320, "get_max_batch_size": 1, "use_kv_cache": True, "use_sdpa_with_kv_cache": True},
    "enable_dynamic_shape": True,
}
"""What a program of optimum-executorch 1.1.0 says of itself, which is called as `Cached` is: with a position for each
token, for the logits of all of them, and for one token less than it has room for."""
PROGRAMS: dict[str, Callable[[Path], None]] = {
    "exporter": export_llm,
    "exporter-static": lambda path: export_llm(path, model={"enable_dynamic_shape": False}),
    "exporter-8da4w": lambda path: export_llm(
        path, quantization={"qmode": "8da4w", "group_size": 32, "embedding_quantize": "4,32"}
    ),
    # The second layer attends to 16 tokens.
    "ring": lambda path: export_llm(
        path, model={"local_global_attention": [0, 16]}, export={"max_seq_length": 17, "max_context_length": CONTEXT}
    ),
    "positions": lambda path: export_module(path, Cached(), (TOKENS, POSITIONS), ({1: LENGTH}, {0: LENGTH}), OPTIMUM),
    "eight": lambda path: export_module(path, Cached(), (TOKENS, POSITIONS), None, CONSTANTS),
    "whole-text": lambda path: export_module(path, WholeText(), (TOKENS,), ({1: LENGTH},), {"get_eos_id": 256}),
    "weights-apart": lambda path: export_module(path, Bigrams(), (TOKENS,), ({1: LENGTH},), weights_apart=True),
    "callers-cache": lambda path: export_module(
        path, CallersCache(), (TOKENS, POSITIONS[:1], torch.zeros(1, 8, 16)), None, CONSTANTS
    ),
    "pictures": lambda path: export_module(path, Pictures(), (torch.zeros(1, 3, 4, 4),)),
    "qualcomms": lambda path: export_module(
        path, {"kv_forward": Pictures(), "prefill_forward": Pictures()}, (torch.zeros(1, 3, 4, 4),)
    ),
}
"""How each program is made, by the name of its folder."""

if __name__ == "__main__":
    gc.disable()  # It takes a tenth of the time, and this ends soon.
    torch.set_num_threads(1)
    folder, file = sys.argv[1:]
    for name, make in PROGRAMS.items():
        make(Path(folder, name, file))
