"""The chips that ExecuTorch's Qualcomm backend knows."""

from typing import Any

from ...errors import ConversionFailed

BLOCKS_FROM = 69
"""The HTP's version from which on it multiplies by 4-bit weights with a scale for each block."""


def chips() -> dict[str, int]:
    """By name, the version of each one's NPU (HTP)."""
    from executorch.backends.qualcomm.serialization.qc_schema import _soc_info_table

    return {chip.name: int(info.htp_info.htp_arch) for chip, info in _soc_info_table.items()}


def check_chip(name: str | None, bits: int) -> str:
    """The chip of this name, however it is spelled. Errors: ConversionFailed where there is none, or where it cannot
    multiply by weights of so many bits."""
    known = chips()
    if name is None or (chip := name.upper()) not in known:
        what = f"There is no chip {name!r}" if name else "A model for Qualcomm is lowered for one chip: name it"
        raise ConversionFailed(
            f"{what}. --soc takes {', '.join(sorted(known))}; SM8650 is the Snapdragon 8 Gen 3, SM8750 the 8 Elite."
        )
    if bits == 4 and known[chip] < BLOCKS_FROM:
        raise ConversionFailed(
            f"The NPU of {chip} (HTP v{known[chip]}) has no 4-bit weights with a scale for each block. Convert the "
            "model with --recipe int8."
        )
    return chip


def chipset(name: str) -> Any:
    """ExecuTorch's own name of it."""
    from executorch.backends.qualcomm.serialization.qc_schema import QcomChipset

    return QcomChipset[name]
