"""The demo: `python app.py` opens the page at once and obtains the model while it is up."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import get_args

import ui
from falcon_runtime.errors import FalconError
from falcon_runtime.fleet import Fleet
from falcon_runtime.status import Status


class CannotListen(FalconError):
    """The page's address cannot be had: mostly a port in use."""


def main() -> int:
    """Serves the page until it is interrupted; the exit code."""
    options = parse_arguments()
    # Containers and Spaces end a program with SIGTERM: leave as after Ctrl-C, so that the engine's process ends too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Fleet(options.model, backend=options.backend) as fleet:
            serve(fleet, options)
    except FalconError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def parse_arguments() -> argparse.Namespace:
    """Flags win over the variables that Gradio and Spaces set."""
    env = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=env("FALCON_MODEL"), help="catalogue name, or folder of a converted model")
    parser.add_argument("--host", default=env("GRADIO_SERVER_NAME", "127.0.0.1"), help="address to listen on")
    parser.add_argument("--port", type=int, default=env("GRADIO_SERVER_PORT", "7860"), help="port to listen on")
    parser.add_argument("--share", action="store_true", default=None, help="also open a public link through Gradio")
    parser.add_argument(
        "--offer",
        choices=get_args(ui.Offer),
        default=env("FALCON_OFFER"),
        help="which models visitors may switch to (default: all on a page that only this machine sees, else converted)",
    )
    parser.add_argument("--backend", default="xnnpack", help="ExecuTorch backend that the model was lowered for")
    return parser.parse_args()


def serve(fleet: Fleet, options: argparse.Namespace) -> None:
    """Opens the page, then obtains the model, then serves until interrupted."""
    host, port, share = options.host, options.port, options.share
    # No stranger shall make this machine download gigabytes.
    private = host in ("127.0.0.1", "localhost", "::1") and not share
    demo = ui.build(fleet, options.offer or ("all" if private else "converted"))
    try:
        demo.launch(server_name=host, server_port=port, share=share, prevent_thread_lock=True, **ui.launch_options())
    except OSError as error:
        raise CannotListen(
            f"The page cannot be opened on {host}, port {port}: the port is in use, or the address is not this "
            "machine's. Choose others with --port and --host."
        ) from error
    try:
        print(f"The page is at {demo.local_url}", flush=True)
        fleet.current.load(wait=False, on_status=status_printer())
        demo.block_thread()
    finally:
        demo.close(verbose=False)


def status_printer() -> Callable[[Status], None]:
    """A function that prints what the runtime does: each new state, and every few percent of one."""
    printed = None

    def report(status: Status) -> None:
        nonlocal printed
        step = (status.state, int((status.progress or 0) * 20))
        if step != printed:
            print(status, flush=True)
            printed = step

    return report


if __name__ == "__main__":
    sys.exit(main())
