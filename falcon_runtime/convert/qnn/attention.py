"""How the products of attention are quantized: keys and values are kept in 8 bits, and what meets them has 16.

A product of two 16-bit numbers takes an NPU four times as long, and older ones have none. ExecuTorch has an annotation
of its own for this (`custom_annotate_llama_matmul_16a8w`), whose ranges are moving averages: those of a model that is
calibrated token by token stay near the first token's, and the others are cut off.
"""

import torch
from executorch.backends.qualcomm.quantizer.qconfig import get_8a8w_qnn_ptq_config, get_16a8w_qnn_ptq_config
from torch.fx import GraphModule, Node
from torchao.quantization.pt2e import MinMaxObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpecBase, SharedQuantizationSpec
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

WRITE = torch.ops.aten.index_put_.default


def keep_cache_in_8_bits(graph: GraphModule) -> None:
    """Annotates each product with a cache, and what leads from the cache to it."""
    sixteen = get_16a8w_qnn_ptq_config(act_observer=MinMaxObserver)
    eight = get_8a8w_qnn_ptq_config(act_symmetric=True, act_observer=MinMaxObserver).input_activation
    for product in graph.graph.nodes:
        if product.target != torch.ops.aten.matmul.default:
            continue
        left, right = product.args
        _annotate(product, {left: sixteen.input_activation, right: sixteen.weight}, sixteen.output_activation)
        while right.target != WRITE:
            _annotate_same(right, right.args[0], eight)
            right = right.args[0]
        _annotate_same(right, right.args[2], eight)  # What is written, and so all of the cache.


def _annotate_same(node: Node, source: Node, spec: QuantizationSpecBase) -> None:
    """`node` gives the numbers of `source` in another place or order."""
    _annotate(node, {source: spec}, SharedQuantizationSpec((source, node)))


def _annotate(node: Node, inputs: dict[Node, QuantizationSpecBase], output: QuantizationSpecBase) -> None:
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(input_qspec_map=inputs, output_qspec=output, _annotated=True)
