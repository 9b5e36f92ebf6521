"""Programs as others export them, made of the small Llama: by ExecuTorch's own exporter, and of modules of one's own.
Apart from the fixtures, for to import this takes seconds."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
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


def export_llm(folder: Path, name: str = "model.pte", **sections: Mapping[str, Any]) -> None:
    """The small Llama through ExecuTorch's exporter into `folder`; `sections` are parts of its configuration."""
    from executorch.examples.models.llama.export_llama_lib import export_llama

    folder.mkdir(parents=True, exist_ok=True)
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
        config.export.output_name = str(folder / name)  # Taken as a path, for it ends in .pte.
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
