"""Rounding the model as an NPU computes it: 16-bit activations, weights of 8 or 4 bits, and 8-bit keys and values.

The ranges of activations are those that a text has in the running model.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from executorch.backends.qualcomm.quantizer.quant_recipe import QuantGranularity, QuantRecipe
from executorch.backends.qualcomm.quantizer.quantizer import QnnQuantizer, QuantDtype
from torch.fx import GraphModule
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from ..stock.static import EXAMPLE, StaticLlama
from .attention import keep_cache_in_8_bits
from .chips import chipset

BLOCK = 32
"""Inputs of a 4-bit weight that share a scale."""


def quantized(
    model: StaticLlama,
    chip: str,
    bits: int,
    texts: Sequence[Sequence[int]],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> GraphModule:
    """The graph of `model`, quantized for `chip` by running it over `texts`, token ids; each is cut to the context.

    `on_progress` is told how many tokens of all it has run.
    """
    prepared = observed(model, chip, bits)
    texts = [text[: model.context] for text in texts]
    done, total = 0, sum(map(len, texts))
    with torch.no_grad():
        for text in texts:
            for position, token in enumerate(text):
                prepared(torch.tensor([[token]]), torch.tensor([position]))
                done += 1
                on_progress(done, total)
    graph = convert_pt2e(prepared)
    for name, cache in graph.named_buffers():
        if name.endswith((".keys", ".values")):
            cache.zero_()  # What calibration has left there is no part of the model.
    return graph


def observed(model: StaticLlama, chip: str, bits: int) -> GraphModule:
    """The graph of `model` with observers, which see nothing yet."""
    quantizer = QnnQuantizer(soc_model=chipset(chip))
    quantizer.set_recipe(_recipe(bits))
    with torch.no_grad():
        return prepare_pt2e(torch.export.export(model, EXAMPLE, strict=False).module(), quantizer)


def _recipe(bits: int) -> QuantRecipe:
    common: dict[str, Any] = {"is_qat": False, "act_observer": MinMaxObserver}
    in_8_bits = common | {"quant_dtype": QuantDtype.use_16a8w}
    by_output = in_8_bits | {"granularity": QuantGranularity.PER_CHANNEL}
    in_4_bits = common | {
        "quant_dtype": QuantDtype.use_16a4w_block,
        "granularity": QuantGranularity.PER_BLOCK,
        "extra_kwargs": {"block_size": (1, BLOCK)},
    }
    recipe = QuantRecipe(**in_8_bits, granularity=QuantGranularity.PER_TENSOR)
    recipe.add_node_target({torch.ops.aten.linear.default}, **(in_4_bits if bits == 4 else by_output))
    recipe.add_regex({r"(^|\.)head$"}, **by_output)  # Of several that fit, the one that was added last counts.
    recipe.custom_quant_annotations = [keep_cache_in_8_bits]
    return recipe
