"""Where this project keeps what is the user's."""

import os
from pathlib import Path


def user_cache() -> Path:
    """The folder for what can be made again. XDG_CACHE_HOME is the usual variable for it. Without that and a home
    folder there is none that could be written."""
    return _folder("XDG_CACHE_HOME", ".cache")


def user_state() -> Path:
    """The folder for what is remembered from one run to the next, likewise by XDG_STATE_HOME."""
    return _folder("XDG_STATE_HOME", ".local/state")


def _folder(variable: str, below_home: str) -> Path:
    home = os.path.expanduser("~")
    parent = os.environ.get(variable) or (os.path.join(home, below_home) if home != "~" else os.devnull)
    return Path(parent) / "falcon-runtime"
