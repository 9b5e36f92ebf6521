"""The demo: `python app.py` opens the page at once and prepares the model while it is up."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import get_args

from falcon_runtime.errors import FalconError
from falcon_runtime.fleet import Fleet
from falcon_runtime.models.choosing import Offer, Plan, hub_problem, plan
from falcon_runtime.models.library import Choice, default_models_dir
from falcon_runtime.status import Status

logger = logging.getLogger(__name__)

OFFLINE = ("FALCON_OFFLINE", "HF_HUB_OFFLINE")
"""Variables that are as good as --offline."""


class CannotListen(FalconError):
    """The page cannot have the address that it should: mostly because the port is in use."""


def main() -> int:
    """Serves the page until it is interrupted; the exit code."""
    options = parse_arguments()
    logging.basicConfig(format="%(message)s")
    # Containers and Spaces end a program with SIGTERM: leave as after Ctrl-C, so that the engine's process ends too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        models = plan(options.model, default_models_dir(), "SPACE_ID" in os.environ, options.offline)
        with Fleet(models.first, backend=options.backend) as fleet:
            serve(fleet, models, options)
    except FalconError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def parse_arguments() -> argparse.Namespace:
    options = build_parser().parse_args()
    # No stranger may make this machine download gigabytes.
    private = options.host in ("127.0.0.1", "localhost", "::1") and not options.share
    options.offer = options.offer or ("all" if private else "converted")
    if options.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # For the processes that this one starts.
        options.offer = "converted" if options.offer == "all" else options.offer
    return options


def build_parser() -> argparse.ArgumentParser:
    """Flags win over the variables that Gradio, the hub's client and Spaces set."""
    env = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=env("FALCON_MODEL"), help="catalogue name, or folder of a converted model")
    parser.add_argument("--host", default=env("GRADIO_SERVER_NAME", "127.0.0.1"), help="address to listen on")
    parser.add_argument("--port", type=port, default=env("GRADIO_SERVER_PORT", "7860"), help="port to listen on")
    parser.add_argument("--share", action="store_true", default=None, help="also open a public link through Gradio")
    parser.add_argument(
        "--offer",
        choices=get_args(Offer),
        default=env("FALCON_OFFER"),
        help="which models visitors may switch to (default: all on a page that only this machine sees, else converted)",
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        default=any(env(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE),
        help="download nothing from the model hub, and offer nothing that is there",
    )
    parser.add_argument("--backend", default="xnnpack", help="ExecuTorch backend that the model was lowered for")
    return parser


def port(text: str) -> int:
    """Errors: ValueError."""
    if not 0 < (number := int(text)) < 1 << 16:
        raise ValueError
    return number


def serve(fleet: Fleet, models: Plan, options: argparse.Namespace) -> None:
    """Opens the page, then prepares the models, then serves until interrupted."""
    import ui  # Gradio's import takes seconds, for which no error in the arguments should wait.

    host, port, share = options.host, options.port, options.share
    demo = ui.build(fleet, options.offer, models.recommended.name if models.recommended else None)
    bypass_proxies("127.0.0.1", "localhost", host)
    try:
        demo.launch(server_name=host, server_port=port, share=share, prevent_thread_lock=True, **ui.launch_options())
    except OSError as error:
        raise CannotListen(
            f"The page cannot be opened on {host}, port {port}: the port is in use, or the address is not this "
            "machine's. Choose others with --port and --host."
        ) from error
    tell(f"The page is at {demo.local_url}")
    threading.Thread(target=prepare, args=(fleet, models, options), name="falcon-prepare", daemon=True).start()
    while True:
        time.sleep(3600)  # Gradio's own waiting would, after an interrupt, wait for every open page.


def bypass_proxies(*hosts: str) -> None:
    """Makes this process reach `hosts` directly. Gradio looks at the page's own address to see whether the page is up,
    and a proxy may not know it."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [known, *hosts]))


def prepare(fleet: Fleet, models: Plan, options: argparse.Namespace) -> None:
    """Loads the first model, then begins to prepare the one that follows it; or offers the owner, who asked for none,
    the one that suits the machine. The terminal tells how all of it goes."""
    fleet.load(status_printer())
    if models.then and reaches_hub(models.then, fleet):
        try:
            coming = fleet.switch(models.then, status_printer())
            tell(f"{coming.title} is being prepared, and answers as soon as it is ready.")
        except FalconError as error:
            logger.error("%s", error)
    elif not models.then and options.model is None and not options.offline:
        offer(fleet, models.recommended)


def offer(fleet: Fleet, choice: Choice | None) -> None:
    """Tells the owner which Falcon could answer in place of the model that does."""
    if choice is None:
        tell(f"No Falcon fits this machine and answers at reading speed: {fleet.current.title} answers.")
    elif choice.name != fleet.current.name and (choice.converted or reaches_hub(choice.name, fleet)):
        size = "" if choice.converted else f", {choice.download_bytes / 1e9:.1f} GB to download,"
        tell(
            f"{choice.title}{size} is the largest Falcon that answers at reading speed on this machine:\n"
            f"  python app.py --model {choice.name}",
        )


def reaches_hub(name: str, fleet: Fleet) -> bool:
    """Whether the model can be downloaded; if not, the owner is told."""
    if problem := hub_problem(name):
        logger.warning("The model hub cannot be reached for %s (%s): %s answers.", name, problem, fleet.current.title)
    return problem is None


def tell(words: object) -> None:
    """Prints a line, whole: several threads do, and `print` writes a line's end apart from the line."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def status_printer() -> Callable[[Status], None]:
    """A function that prints what the runtime does: each new state, and every few percent of one. Failures are logged
    where they happen."""
    printed = None

    def report(status: Status) -> None:
        nonlocal printed
        step = (status.state, int((status.progress or 0) * 20))
        if step != printed and status.state != "failed":
            tell(status)
            printed = step

    return report


if __name__ == "__main__":
    sys.exit(main())
