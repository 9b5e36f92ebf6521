"""A conversion's last step: the written folder does on a phone's library what it should."""

import logging
import tempfile
from pathlib import Path

from ...errors import ConversionFailed
from ...system.child import Child

logger = logging.getLogger(__name__)


def check_folder(folder: Path, title: str, answers: bool = True) -> None:
    """Raises ConversionFailed unless ExecuTorch's `TextLLMRunner` reads the folder's tokenizer as it is meant, and
    answers with the tokens that the program gives. Both load the model, one after the other. Without `answers` the
    program is not run."""
    with tempfile.TemporaryFile() as log:
        child = Child("falcon_runtime.convert.stock.trial", str(folder), str(int(answers)), stderr=log)
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
