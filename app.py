"""The demo: `python app.py` opens the page at once and prepares the model while it is up."""

import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from falcon_runtime.errors import CannotListen, FalconError
from falcon_runtime.fleet import Fleet
from falcon_runtime.models.choosing import Plan, hub_problem, plan
from falcon_runtime.models.library import Choice, default_models_dir
from falcon_runtime.server.fleets import fleet_of
from falcon_runtime.server.settings import BadSetting
from falcon_runtime.status import Status
from falcon_runtime.system.imports import serve_alike
from falcon_runtime.system.instruction_sets import chosen
from falcon_runtime.system.leaving import leave_at_signals
from settings import Settings, read_settings

logger = logging.getLogger(__name__)


def main() -> int:
    """Serves the page until the program is ended; the exit code where it cannot."""
    logging.basicConfig(format="%(message)s")
    uploads = tempfile.mkdtemp(prefix="falcon-uploads-")
    os.environ["GRADIO_TEMP_DIR"] = uploads
    leave_at_signals(lambda: clean(uploads))
    try:
        settings = read_settings(sys.argv[1:])
        chosen()  # An instruction set that is not there should be a sentence now, not when the engine starts.
        if settings.offline:
            os.environ["HF_HUB_OFFLINE"] = "1"  # For the processes that this one starts.
        models = plan(settings.model, default_models_dir(), settings.on_space, settings.offline, settings.draft)
        with fleet_of(settings, models.first) as fleet:
            serve(fleet, models, settings)
    except FalconError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, BadSetting) else 1
    finally:
        shutil.rmtree(uploads, ignore_errors=True)


def clean(uploads: str) -> None:
    """What is left to do when the program is told to end."""
    shutil.rmtree(uploads, ignore_errors=True)
    if tunneling := sys.modules.get("gradio.tunneling"):
        for tunnel in tunneling.CURRENT_TUNNELS:
            tunnel.kill()


def serve(fleet: Fleet, models: Plan, settings: Settings) -> NoReturn:
    """Opens the page, then prepares the models, then serves until interrupted."""
    serve_alike()
    import ui  # Gradio's import takes seconds, for which no error in the settings should wait.
    from falcon_runtime.server import Clients, create_app
    from ui.phone import PhoneFiles

    host, port = settings.host, settings.port
    recommended = models.recommended.name if models.recommended else None
    phone_files = PhoneFiles(fleet.models_dir) if settings.phone_files else None
    demo = ui.build(fleet, settings.queue_length, settings.offered, recommended, phone_files)
    bypass_proxies("127.0.0.1", "localhost", host)
    clients = Clients(settings)
    api = create_app(fleet, settings, clients)
    options = ui.launch_options(fleet, settings, clients, api, settings.mcp, phone_files)
    try:
        demo.launch(server_name=host, server_port=port, share=settings.share, prevent_thread_lock=True, **options)
    except OSError as error:
        raise CannotListen(host, port) from error
    tell(f"The page is at {demo.local_url}")
    threading.Thread(target=prepare, args=(fleet, models, settings), name="falcon-prepare", daemon=True).start()
    while True:  # Gradio's own waiting would, after an interrupt, wait for every open page.
        time.sleep(1)  # No longer: a signal that comes just before this begins is obeyed when it is over.


def bypass_proxies(*hosts: str) -> None:
    """Makes this process reach `hosts` directly. Gradio looks at the page's own address to see whether the page is up,
    and a proxy may not know it."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [known, *hosts]))


def prepare(fleet: Fleet, models: Plan, settings: Settings) -> None:
    """Loads the first model, then begins to prepare the one that follows it; or offers the owner, who asked for none,
    the one that suits the machine. The terminal tells how all of it goes."""
    fleet.load(status_printer())
    if models.then and reaches_hub(models.then, fleet):
        try:
            coming = fleet.switch(models.then, status_printer())
            tell(f"{coming.title} is being prepared, and answers as soon as it is ready.")
        except FalconError as error:
            logger.error("%s", error)
    elif not models.then and settings.model is None and not settings.offline:
        offer(fleet, models.recommended)


def offer(fleet: Fleet, choice: Choice | None) -> None:
    """Tells the owner which Falcon could answer in place of the model that does."""
    if choice is None:
        tell(f"No Falcon both fits this machine and reaches reading speed, so {fleet.current.title} answers.")
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
    """Prints a line, whole: several threads do, and `print` writes a line's end apart from the line. That nobody reads
    it any more, or that a disk is full, is no reason to stop."""
    with suppress(OSError):
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
