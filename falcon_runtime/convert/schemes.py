"""Recipes: how each weight of a model is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatch

from ..errors import ConversionFailed
from ..manifest import RecipeName


ROTATION = 64
"""Inputs that are rotated together, at most: larger blocks lose hardly less and cost more."""


@dataclass(frozen=True)
class Scheme:
    """How one weight is stored: signed integers of `bits`, a scale per `group` inputs (0: per output channel).

    Of a `rotated` one each block of a row's numbers is multiplied by a Hadamard matrix first, and so are the layer's
    inputs while the model runs, which leaves their product what it was. But it mixes the few channels that are tens of
    times larger than all others with their neighbours, so that one scale per token fits them all (QuaRot,
    arXiv:2404.00456, there for the whole width at once).
    """

    bits: int
    group: int = 0
    rotated: bool = False

    @property
    def range(self) -> tuple[int, int]:
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    def groups(self, inputs: int) -> int:
        """Scales per output channel. Errors: ConversionFailed where the groups do not fit."""
        if inputs % (self.group or inputs):
            raise ConversionFailed(
                f"This recipe needs weights whose inputs come in groups of {self.group}; one has {inputs}. Convert the "
                "model with --recipe fp32."
            )
        return inputs // (self.group or inputs)

    def block(self, inputs: int) -> int:
        """Inputs that are rotated together: a power of two that divides all; 1 if none are."""
        return min(ROTATION, inputs & -inputs) if self.rotated else 1

    def __str__(self) -> str:
        kind = f"{'float' if self.bits == 32 else 'int'}{self.bits}"
        return kind + (f"/{self.group}" if self.group else "") + (" rotated" if self.rotated else "")


FP32 = Scheme(bits=32)
INT8 = Scheme(bits=8)
INT8_ROTATED = Scheme(bits=8, rotated=True)
INT4_GROUPS = Scheme(bits=4, group=32)


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
    """The schemes of all weights but the norms, which stay float32."""

    embedding: Scheme
    head: Scheme
    layers: tuple[LayerSchemes, ...]


@dataclass(frozen=True)
class Recipe:
    """The scheme of each kind of weight."""

    embedding: Scheme
    head: Scheme
    layer: LayerSchemes

    def schemes(self, layers: int, wide: Sequence[str] = ()) -> Schemes:
        """Of a model with so many layers; `wide` are patterns of linears (`LAYER.PART`) that stay float32."""

        def of(layer: int) -> LayerSchemes:
            parts = {part.name for part in fields(LayerSchemes) if any(fnmatch(f"{layer}.{part.name}", p) for p in wide)}
            return replace(self.layer, **dict.fromkeys(parts, FP32))

        return Schemes(self.embedding, self.head, tuple(of(layer) for layer in range(layers)))


RECIPES: dict[RecipeName, Recipe] = {
    "fp32": Recipe(embedding=FP32, head=FP32, layer=LayerSchemes(FP32, FP32, FP32, FP32)),
    "int8": Recipe(
        embedding=INT8_ROTATED,
        head=INT8_ROTATED,
        # What comes out of attention, an average, has no channels that need rotation.
        layer=LayerSchemes(qkv=INT8_ROTATED, out=INT8, gate_up=INT8_ROTATED, down=INT8_ROTATED),
    ),
    "int4": Recipe(
        embedding=INT8_ROTATED,
        head=INT8_ROTATED,
        layer=LayerSchemes(qkv=INT4_GROUPS, out=INT4_GROUPS, gate_up=INT4_GROUPS, down=INT8_ROTATED),
    ),
}
