"""Whether a written folder does with the phones' libraries what it should."""

import logging
import tempfile
from pathlib import Path
from typing import Literal

from ...errors import ConversionFailed
from ...system.child import Child

logger = logging.getLogger(__name__)


def check_tokenizer(folder: Path, title: str) -> None:
    """Raises ConversionFailed unless the phones' library reads the folder's tokenizer as it is meant."""
    _try(folder, "tokenizer", title)


def check_program(folder: Path, title: str) -> None:
    """Raises ConversionFailed unless ExecuTorch's `TextLLMRunner` answers with the tokens that this project's engine
    gives. Both load the model, one after the other."""
    _try(folder, "program", title)


def _try(folder: Path, what: Literal["tokenizer", "program"], title: str) -> None:
    with tempfile.TemporaryFile() as log:
        child = Child("falcon_runtime.convert.stock.trial", str(folder), what, stderr=log)
        try:
            problem = child.connection.recv()
        except (EOFError, OSError):
            problem = f"trying it ended with {child.ended()[1]}, as with too little memory"
        finally:
            child.kill()
        if problem:
            log.seek(0)
            logger.info("trying %s failed; ExecuTorch wrote:\n%s", title, log.read()[-4000:].decode(errors="replace"))
            raise ConversionFailed(
                f"{title} would not run on a phone: {problem}. Nothing is kept. Take the model from another file, such "
                "as its Hugging Face folder instead of a GGUF file, or convert it --for server."
            )
