"""How a stock file stores each weight: in the forms that XNNPACK and ExecuTorch's embedding take."""

from dataclasses import dataclass

from ...errors import ConversionFailed
from ...models.architecture import Architecture
from ...models.manifest import RecipeName
from ...models.recipes import FP32, FP32_LAYER, LayerSchemes, Scheme, Schemes

GROUP = 32
"""Numbers that share a scale, as in the blocks of a GGUF file."""
ROTATION = 64
"""Inputs that are rotated together, at most: rotating the whole width loses hardly less and takes a larger product."""


@dataclass(frozen=True)
class StockScheme(Scheme):
    """Signed integers of `bits`, with a scale for each `group` of inputs (0: for each output).

    Of a `rotated` one each block of a row's numbers is multiplied by a Hadamard matrix first, and so are the layer's
    inputs while the model runs, which leaves their product what it was. But it mixes the few channels that are tens of
    times larger than all others with their neighbours, so that one scale for a token fits them all (QuaRot,
    arXiv:2404.00456, there for the whole width at once).

    With `offsets` every group has one that is added to its numbers, as in llama.cpp's Q4_1: an integer of 8 bits times
    a scale for each output. XNNPACK's groups have none, so its part of the product is a second, small layer: the
    offsets times the sums of the groups of inputs.
    """

    group: int = 0
    rotated: bool = False

    @property
    def rows_together(self) -> int:
        return 1

    @property
    def range(self) -> tuple[int, int]:
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    def groups(self, inputs: int) -> int:
        """Scales for each output. Errors: ConversionFailed where the groups do not fit."""
        if inputs % (self.group or inputs):
            raise ConversionFailed(
                f"This recipe needs weights whose inputs come in groups of {self.group}; one has {inputs}. Convert the "
                "model with --recipe int8."
            )
        return inputs // (self.group or inputs)

    def block(self, inputs: int) -> int:
        """Inputs that the layer needs together: those of a group with an offset, or those that are rotated together, a
        power of two that divides all. 1 if it needs none."""
        if self.offsets:
            return self.group
        return min(ROTATION, inputs & -inputs) if self.rotated else 1

    def bytes(self, outputs: int, inputs: int) -> int:
        """Of a weight [outputs, inputs] with its scales: bfloat16 ones where XNNPACK has groups, else float32."""
        scales = outputs * self.groups(inputs) * (2 if self.offsets else 4)
        offsets = outputs * (self.groups(inputs) + 4) if self.offsets else 0
        return outputs * inputs * self.bits // 8 + scales + offsets

    def __str__(self) -> str:
        return (
            f"int{self.bits}"
            + f"/{self.group}" * bool(self.group)
            + "+offset" * self.offsets
            + " rotated" * self.rotated
        )


INT8 = StockScheme(bits=8)
INT8_ROTATED = StockScheme(bits=8, rotated=True)
INT4 = StockScheme(bits=4, group=GROUP, offsets=True)
INT4_TABLE = StockScheme(bits=4, group=GROUP)
"""For an embedding: a kernel looks rows up in it."""

# What comes out of attention, an average, has no channels that need rotation.
INT8_LAYER = LayerSchemes(qkv=INT8_ROTATED, out=INT8, gate_up=INT8_ROTATED, down=INT8_ROTATED)
INT4_LAYER = LayerSchemes(qkv=INT4, out=INT4, gate_up=INT4, down=INT4)


def stock_schemes(recipe: RecipeName, architecture: Architecture) -> Schemes:
    """How `recipe` stores the weights of a model of this shape. Keys and values are float32."""
    layers, tied = architecture.layers, architecture.tied
    if recipe == "fp32":
        return Schemes(FP32, FP32, (FP32_LAYER,) * layers, shared=tied, cache_bits=32)
    embedding = INT8_ROTATED if tied or recipe == "int8" else INT4_TABLE
    layer = INT8_LAYER if recipe == "int8" else INT4_LAYER
    return Schemes(embedding, INT8_ROTATED, (layer,) * layers, shared=tied, cache_bits=32)


def blocks(scheme: Scheme, inputs: int) -> tuple[int, ...]:
    """The shape in which a layer of this scheme takes the inputs of one token."""
    block = scheme.block(inputs) if isinstance(scheme, StockScheme) else 1
    return (inputs // block, block) if block > 1 else (inputs,)
