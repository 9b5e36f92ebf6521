"""Where this project keeps what is the user's."""

import os
from pathlib import Path


def user_cache() -> Path:
    """The folder for what can be made again. XDG_CACHE_HOME is the usual variable for it. Without that and a home
    folder there is none that could be written."""
    home = os.path.expanduser("~")
    cache_home = os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home != "~" else os.devnull)
    return Path(cache_home) / "falcon-runtime"
