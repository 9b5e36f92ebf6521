"""Recipes: how each weight of a model is stored."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatch

from ..errors import ConversionFailed
from ..manifest import RecipeName


@dataclass(frozen=True)
class Scheme:
    """How one weight is stored: signed integers of `bits`, a scale per `group` inputs (0: per output channel)."""

    bits: int
    group: int = 0

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

    def __str__(self) -> str:
        return f"{'float' if self.bits == 32 else 'int'}{self.bits}" + (f"/{self.group}" if self.group else "")


FP32 = Scheme(bits=32)
INT8 = Scheme(bits=8)
INT8_GROUPS = Scheme(bits=8, group=32)
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

    linear: Scheme
    head: Scheme
    embedding: Scheme

    def schemes(self, layers: int, wide: Sequence[str] = ()) -> Schemes:
        """Of a model with so many layers; `wide` are patterns of linears (`LAYER.PART`) that stay float32."""

        def scheme(layer: int, part: str) -> Scheme:
            return FP32 if any(fnmatch(f"{layer}.{part}", pattern) for pattern in wide) else self.linear

        parts = [part.name for part in fields(LayerSchemes)]
        each = (LayerSchemes(**{part: scheme(layer, part) for part in parts}) for layer in range(layers))
        return Schemes(self.embedding, self.head, tuple(each))


RECIPES: dict[RecipeName, Recipe] = {
    "fp32": Recipe(linear=FP32, head=FP32, embedding=FP32),
    "int8": Recipe(linear=INT8, head=INT8, embedding=INT8_GROUPS),
    "int4": Recipe(linear=INT4_GROUPS, head=INT8, embedding=INT8_GROUPS),
}
