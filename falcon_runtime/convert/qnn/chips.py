"""The chips that ExecuTorch's Qualcomm backend knows."""

from typing import Any

from ...errors import ConversionFailed
from ...models.manifest import RecipeName

BLOCKS_FROM = 69
"""The version of the NPU (HTP) from which on it has 4-bit weights with a scale for each block."""


def versions() -> dict[str, int]:
    """Of each chip's NPU."""
    from executorch.backends.qualcomm.serialization.qc_schema import _soc_info_table

    return {chip.name: int(info.htp_info.htp_arch) for chip, info in _soc_info_table.items()}


def known_chip(name: str | None) -> str:
    """The chip of this name, however it is spelled. Errors: ConversionFailed where there is none."""
    known = versions()
    if name and (chip := name.upper()) in known:
        return chip
    what = f"There is no chip {name!r}" if name else "A model for Qualcomm is compiled for one chip, and none is named"
    raise ConversionFailed(
        f"{what}. --soc takes {', '.join(sorted(known))}; SM8650 is the Snapdragon 8 Gen 3, SM8750 the 8 Elite."
    )


def check_recipe(chip: str, recipe: RecipeName) -> None:
    """Raises ConversionFailed where the NPU has no such weights."""
    if recipe == "int4" and (version := versions()[chip]) < BLOCKS_FROM:
        raise ConversionFailed(
            f"The NPU of {chip} (HTP v{version}) has no 4-bit weights with a scale for each block. Convert the model "
            "with --recipe int8."
        )


def chipset(chip: str) -> Any:
    """ExecuTorch's own name of it."""
    from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset

    return QcomChipset[chip]
