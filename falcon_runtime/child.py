"""What the processes that this package starts have in common."""

import os
from pathlib import Path


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, with `changes`, in which `python -m falcon_runtime` finds this very package, whatever
    the working directory."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | changes | {"PYTHONPATH": os.pathsep.join(paths)}
