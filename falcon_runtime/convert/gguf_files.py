"""Which GGUF file of several is meant: that of a quantization, or the one that most people want."""

import re
from collections.abc import Iterable

from ..errors import ConversionFailed

USUAL = ("Q4_K_M", "Q4_0", "Q4_1", "Q8_0")
"""What is taken where no quantization is named: small, and nearly as good as the original; the first that is there."""
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_LISTED = 20


def gguf_files(names: Iterable[str]) -> list[str]:
    """Those of the files `names` that hold a language model, sorted."""
    found = (name for name in names if name.lower().endswith(".gguf"))
    return sorted(name for name in found if not name.rpartition("/")[2].lower().startswith(("mmproj", "imatrix")))


def only_gguf(names: Iterable[str]) -> bool:
    """Whether `names`, of all files that there are, are those of GGUF files and not of a Hugging Face checkpoint."""
    names = list(names)
    return bool(gguf_files(names)) and not any(name.endswith(".safetensors") for name in names)


def choose_gguf(names: Iterable[str], source: str, quantization: str | None = None) -> str:
    """The file of `source` that is of this quantization, in whatever case; by default of a usual one, or the only one.

    Errors: ConversionFailed, with the files that there are, where none is, or only one in parts.
    """
    files = gguf_files(names)
    whole = [name for name in files if not _PART.search(name)]
    for tag in [quantization] if quantization else USUAL:
        pattern = re.compile(rf"(^|[-._/]){re.escape(tag)}[-./]", re.IGNORECASE)
        if found := [name for name in whole if pattern.search(name)]:
            return min(found, key=lambda name: (len(name), name))
        if parts := [name for name in files if pattern.search(name) and (quantization or not whole)]:
            check_whole(parts[0], source)
    if not quantization and len(whole) == 1:
        return whole[0]
    wanted = f"no GGUF file of {quantization}" if quantization else "several GGUF files, and none is a usual choice"
    raise ConversionFailed(f"{source} has {wanted}. {listing(files, source)}")


def check_whole(name: str, source: str) -> None:
    """Raises ConversionFailed if the file `name` of `source` is one of several parts."""
    if part := _PART.search(name):
        raise ConversionFailed(
            f"{name} of {source} is one of {int(part[2])} parts of a file. Download them all, join them with "
            f"llama-gguf-split --merge FIRST_PART MODEL.gguf, and convert MODEL.gguf; or take a file that is whole."
        )


def listing(files: list[str], source: str) -> str:
    """A sentence with what there is to choose from."""
    if not files:
        return f"It has no GGUF files at all: name {source} alone if it has safetensors."
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    return f"Name one of its files, as in {source}/{files[0]}; there are {', '.join(files[:_LISTED])}{more}."
