"""What a target needs beyond this project's own packages, looked for before there is any work."""

from ..errors import ConversionFailed
from ..models import openvino, qnn
from ..models.manifest import Target


def checked_chip(target: Target, chip: str | None) -> str | None:
    """The chip to compile for, by ExecuTorch's name; None where none is needed.

    Errors: BackendUnavailable where the SDK or a package of `target` is missing; ConversionFailed where `chip` is not
    known, or not for `target`.
    """
    if target == "openvino":
        openvino.check_lowering()
    if target != "qnn":
        if chip:
            raise ConversionFailed("--soc is the chip of a model --for qnn: leave it out.")
        return None
    from .qnn.chips import known_chip

    chip = known_chip(chip)
    qnn.check_lowering()
    return chip
