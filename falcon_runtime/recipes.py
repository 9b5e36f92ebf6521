"""Recipes: how each weight of a model is stored, and what that takes."""

from dataclasses import dataclass, fields

from .architecture import Architecture
from .errors import ConversionFailed
from .manifest import RecipeName

ROTATION = 64
"""Inputs that are rotated together, at most: rotating the whole width loses hardly less and takes a larger product."""


@dataclass(frozen=True)
class Scheme:
    """How one weight is stored: signed integers of `bits`, a scale per `group` inputs (0: per output channel).

    Of a `rotated` one each block of a row's numbers is multiplied by a Hadamard matrix first, and so are the layer's
    inputs while the model runs, which leaves their product what it was. But it mixes the few channels that are tens of
    times larger than all others with their neighbours, so that one scale per token fits them all (QuaRot,
    arXiv:2404.00456, there for the whole width at once).

    With `offsets` every group has one that is added to its numbers, as in llama.cpp's Q4_1: an integer of 8 bits times
    a scale per output channel. Its part of the product is that of the offsets with the sums of the inputs' groups.
    """

    bits: int
    group: int = 0
    rotated: bool = False
    offsets: bool = False

    @property
    def range(self) -> tuple[int, int]:
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    def groups(self, inputs: int) -> int:
        """Scales per output channel. Errors: ConversionFailed where the groups do not fit."""
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

    def blocks(self, inputs: int) -> tuple[int, ...]:
        """The shape in which the layer takes the inputs of one token."""
        block = self.block(inputs)
        return (inputs // block, block) if block > 1 else (inputs,)

    def bytes(self, outputs: int, inputs: int) -> int:
        """Of a weight [outputs, inputs] with its scales: bfloat16 ones where there are offsets, else float32."""
        scales = 0 if self.bits == 32 else outputs * self.groups(inputs) * (2 if self.offsets else 4)
        offsets = outputs * (self.groups(inputs) + 4) if self.offsets else 0
        return outputs * inputs * self.bits // 8 + scales + offsets

    def __str__(self) -> str:
        kind = f"{'float' if self.bits == 32 else 'int'}{self.bits}"
        return kind + f"/{self.group}" * bool(self.group) + "+offset" * self.offsets + " rotated" * self.rotated


FP32 = Scheme(bits=32)
INT8 = Scheme(bits=8)
INT8_ROTATED = Scheme(bits=8, rotated=True)
INT4 = Scheme(bits=4, group=32, offsets=True)
INT4_TABLE = Scheme(bits=4, group=32)
"""For an embedding: a kernel looks rows up in it."""


@dataclass(frozen=True)
class LayerSchemes:
    """The schemes of one layer's linears."""

    qkv: Scheme
    out: Scheme
    gate_up: Scheme
    down: Scheme

    def __str__(self) -> str:
        """What layers of one kind have in common, and others not."""
        return " ".join(f"{part.name}={getattr(self, part.name)}" for part in fields(self))


@dataclass(frozen=True)
class Schemes:
    """The schemes of all weights of a model but the norms, which stay float32."""

    embedding: Scheme
    head: Scheme
    layers: tuple[LayerSchemes, ...]
    shared: bool
    """Whether embedding and output layer are one in the checkpoint and stored alike: then as one."""
    cache_bits: int = 16
    """Of the floats that keys and values are kept in: half the memory, unless nothing of the model is to be rounded."""

    def bytes(self, architecture: Architecture) -> int:
        """Of all weights."""
        a = architecture
        total = a.norms * 4 + self.head.bytes(a.vocabulary, a.hidden)
        if not self.shared:
            total += self.embedding.bytes(a.vocabulary, a.hidden)
        for layer in self.layers:
            total += sum(getattr(layer, part).bytes(*shape) for part, shape in a.linear.items())
        return total


FP32_LAYER = LayerSchemes(qkv=FP32, out=FP32, gate_up=FP32, down=FP32)
# What comes out of attention, an average, has no channels that need rotation.
INT8_LAYER = LayerSchemes(qkv=INT8_ROTATED, out=INT8, gate_up=INT8_ROTATED, down=INT8_ROTATED)
INT4_LAYER = LayerSchemes(qkv=INT4, out=INT4, gate_up=INT4, down=INT4)


def schemes_of(recipe: RecipeName, architecture: Architecture) -> Schemes:
    """How `recipe` stores the weights of a model of this shape."""
    layers, tied = architecture.layers, architecture.tied
    if recipe == "fp32":
        return Schemes(FP32, FP32, (FP32_LAYER,) * layers, shared=tied, cache_bits=32)
    if recipe == "int8":
        return Schemes(INT8_ROTATED, INT8_ROTATED, (INT8_LAYER,) * layers, shared=tied)
    return Schemes(INT8_ROTATED if tied else INT4_TABLE, INT8_ROTATED, (INT4_LAYER,) * layers, shared=tied)
