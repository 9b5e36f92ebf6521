"""Rehearses what Hugging Face Spaces, or Docker, do with this repository, and times it.

    sudo "$(command -v python)" -m deploy.rehearse [--dockerfile] [--layers N]

As a Space: the files of the repository in the home folder of a user who can write nothing else; the packages of
`packages.txt` and `requirements.txt`, installed with the command of a Space; its variables; two CPUs and 16 GB. Then
the app is started, and started again, without and with a persistent folder, each time until the Falcon that it chose
by itself has taken over. The Falcon comes from a stand-in for the model hub, which sends random weights in the shape
of Falcon3-1B whatever Falcon is asked for.

`--dockerfile` takes the steps from the Dockerfile instead, with a virtual environment in place of its base image, and
asks for a Falcon by FALCON_MODEL.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from falcon_runtime.system.machine import cpu_name

from .build import DockerBuild, SpaceBuild
from .checkpoint import SHAPE, serving_falcons
from .sandbox import CPUS, MEMORY, sandbox
from .starts import PORT, Figures, Start, is_taken, say

DISK = 20e9
"""About what is needed: the environment, and the weights as they are sent, downloaded and converted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dockerfile", action="store_true", help="the steps of the Dockerfile instead of a Space's")
    parser.add_argument("--layers", type=int, help=f"of the Falcon; default: {SHAPE.architecture.layers}, as it has")
    parser.add_argument("--folder", type=Path, help="where the rehearsal takes place; default: a temporary folder")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # So that everything is cleared away then, too.
    if is_taken(PORT):
        sys.exit(f"Port {PORT} is in use: the rehearsal needs it.")
    base = Path(tempfile.mkdtemp(prefix="falcon-rehearsal-", dir=options.folder))
    try:
        if shutil.disk_usage(base).free < DISK:
            say(f"There is less than {DISK / 1e9:.0f} GB of room on the disk: it may not be enough.")
        figures = rehearse(base, options.dockerfile, options.layers)
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    finally:
        shutil.rmtree(base)
    print()
    print(table(figures))


def rehearse(base: Path, docker: bool, layers: int | None) -> list[Figures]:
    say(f"{cpu_name()}, {os.cpu_count()} CPUs; {CPUS} CPUs and {MEMORY >> 30} GB are for the app")
    with sandbox(base) as place:
        for sentence in place.shortcomings:
            say(sentence)
        build = DockerBuild(place) if docker else SpaceBuild(place)
        installing = build.build()
        say(f"Writing random weights in the shape of {SHAPE.title}{f', of {layers} layers only' if layers else ''}")
        began = time.monotonic()
        with serving_falcons(base, layers) as endpoint:
            say(f"They are written after {time.monotonic() - began:.0f} s, and served by a stand-in for the model hub")
            start = Start(build, endpoint)
            figures = [start(what, persistent) for what, persistent in build.STARTS]
        figures[0].install = installing
        return figures


def table(figures: Sequence[Figures]) -> str:
    """Seconds and gigabytes, as Markdown."""
    names = ["", "install", "page", "first token", "the Falcon answers", "GB serving", "GB converting"]
    rows = [names, ["---"] * len(names), *(row(each) for each in figures)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def row(figures: Figures) -> list[str]:
    install = "" if figures.install is None else f"{figures.install:.0f} s"
    swap = "from the start" if figures.swap is None else f"{figures.swap:.0f} s"
    gigabytes = (f"{size / 1e9:.1f}" if size else "" for size in (figures.serving, figures.converting))
    return [figures.what, install, f"{figures.page:.1f} s", f"{figures.token:.1f} s", swap, *gigabytes]


if __name__ == "__main__":
    main()
