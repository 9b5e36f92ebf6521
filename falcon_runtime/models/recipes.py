"""Recipes: how each weight of a model is stored, and what that takes."""

from dataclasses import dataclass, fields
from math import prod

from ..errors import ConversionFailed
from .architecture import Architecture
from .manifest import CacheBits, RecipeName

TILE, BLOCK = 16, 32
"""Outputs that are computed together, and inputs that share a scale."""
QUADS = BLOCK // 4
"""Inputs that are multiplied together come by fours."""
GROUP = 8
"""Blocks of inputs whose scales are powers of two times one number, the scale of the group. What a block adds up to is
scaled by an addition to the exponents of floats: in a product, the scale of each block would have to be multiplied with
that of its weights first, by the unit of the processor that has most to do."""
SHIFTS = 24
"""Powers of two that the smallest of these scales may be below the largest."""


@dataclass(frozen=True)
class Scheme:
    """How one weight is stored: as floats, or in blocks of 32 numbers as in a GGUF file, each with a float16 scale.

    8 bits are what llama.cpp calls Q8_0 (scale * q, q from -127 to 127), 4 bits are its Q4_0 (q from -8 to 7), and 4
    bits with `offsets` its Q4_1 (scale * q + offset, q from 0 to 15, the offset a float16 too). The numbers of such a
    file stay exactly what they are. 6 bits (scale * q, q from -32 to 31) have no like there: Q6_K has smaller blocks.

    But they lie in another order, that of the kernel (engine/kernels/tile.py): the blocks of 16 outputs for the same 32
    inputs stand together, as their 16 scales, their 16 offsets if any, and then, for each 4 inputs, the 4 numbers of
    the first output, of the second one, and so on, unsigned (q + 128, q + 32 or q + 8; with offsets q). Where a number
    has 4 bits, the low halves of 64 bytes are one such group of inputs and the high halves the next. Where it has 6,
    all low 4 bits stand first, in the same way, and then the high 2, four groups in 64 bytes, the first in the lowest
    bits.
    """

    bits: int
    offsets: bool = False

    @property
    def zero(self) -> int:
        """What is added to the integers so that none is negative."""
        return 0 if self.offsets else 1 << (self.bits - 1)

    @property
    def rows_together(self) -> int:
        """Outputs that are stored as one piece."""
        return 1 if self.bits == 32 else TILE

    @property
    def head_bytes(self) -> int:
        """Of the scales and offsets of 16 blocks."""
        return TILE * (2 + 2 * self.offsets)

    @property
    def block_bytes(self) -> int:
        """Of the blocks of 16 outputs."""
        return self.head_bytes + TILE * BLOCK * self.bits // 8

    def shape(self, outputs: int, inputs: int) -> tuple[int, int, int]:
        """Of the bytes that a weight [outputs, inputs] becomes, outputs being filled up to a multiple of 16.

        Errors: ConversionFailed where inputs do not come in blocks.
        """
        if inputs % BLOCK:
            raise ConversionFailed(
                f"This recipe needs weights whose inputs come in blocks of {BLOCK}; one has {inputs}. Convert the "
                "model with --recipe fp32."
            )
        return -(-outputs // TILE), inputs // BLOCK, self.block_bytes

    def bytes(self, outputs: int, inputs: int) -> int:
        """Of a weight [outputs, inputs]."""
        return outputs * inputs * 4 if self.bits == 32 else prod(self.shape(outputs, inputs))

    def __str__(self) -> str:
        return f"{'float' if self.bits == 32 else 'int'}{self.bits}" + "+offset" * self.offsets


FP32 = Scheme(bits=32)
INT8 = Scheme(bits=8)
INT6 = Scheme(bits=6)
INT4 = Scheme(bits=4)
INT4_OFFSET = Scheme(bits=4, offsets=True)
PACKED = (INT8, INT6, INT4, INT4_OFFSET)


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
    cache_bits: CacheBits = 16
    """Of the numbers that keys and values are kept in. 32 where nothing of the model is to be rounded."""

    @property
    def packed(self) -> bool:
        """Whether all of them are stored in blocks."""
        return self.head != FP32

    @property
    def precise_head(self) -> bool:
        """Whether inputs of the output layer are rounded to 16 bits and not to 8: logits show every error, and few rows
        have any. Not where the rounding of its weights hides it."""
        return self.head.bits > 6

    @property
    def names(self) -> tuple[str, ...]:
        """Of all schemes that occur."""
        layers = {getattr(layer, part.name) for layer in set(self.layers) for part in fields(layer)}
        return tuple(sorted(map(str, layers | {self.embedding, self.head})))

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
INT8_LAYER = LayerSchemes(qkv=INT8, out=INT8, gate_up=INT8, down=INT8)
INT4_LAYER = LayerSchemes(qkv=INT4, out=INT4, gate_up=INT4, down=INT4)
INT4_OFFSET_LAYER = LayerSchemes(qkv=INT4_OFFSET, out=INT4_OFFSET, gate_up=INT4_OFFSET, down=INT4_OFFSET)


def schemes_of(
    recipe: RecipeName, architecture: Architecture, offsets: bool = False, cache_bits: CacheBits = 16
) -> Schemes:
    """How `recipe` stores the weights of a model of this shape; those in 4 bits with `offsets` if the file has them.
    Its keys and values have `cache_bits`, unless it is the recipe that rounds nothing."""
    layers, tied = architecture.layers, architecture.tied
    if recipe == "fp32":
        return Schemes(FP32, FP32, (FP32_LAYER,) * layers, shared=tied, cache_bits=32)
    if recipe == "int8":
        return Schemes(INT8, INT8, (INT8_LAYER,) * layers, tied, cache_bits)
    layer = INT4_OFFSET_LAYER if offsets else INT4_LAYER
    # An output layer is read for each token and an embedding is not, and of the layers it takes rounding the worst.
    embedding, head = (INT8, INT8) if tied else (INT4, INT6)
    return Schemes(embedding, head, (layer,) * layers, tied, cache_bits)
