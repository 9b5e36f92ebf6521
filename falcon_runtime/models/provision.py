"""Provisioning a catalogue model: its download and conversion, in a process of their own (`convert/worker.py`)."""

from pathlib import Path

from ..errors import ConversionFailed, FalconError
from ..status import Report, Status
from ..system.child import Child
from .catalog import CatalogEntry


class Provisioning:
    """The way of `entry`, in its recipe, into `folder`."""

    def __init__(self, entry: CatalogEntry, folder: Path):
        self._entry, self._folder = entry, folder
        self._child: Child | None = None
        self._stopped = False

    def run(self, report: Report = lambda status: None) -> None:
        """Returns when the model is there. Errors: DownloadFailed, ConversionFailed."""
        report(Status("downloading", f"Downloading {self._entry.title}"))
        arguments = self._entry.name, self._entry.recipe, str(self._folder)
        self._child = Child("falcon_runtime.convert.worker", *arguments)
        if self._stopped:
            self._child.kill()
        try:
            while isinstance(message := self._child.connection.recv(), Status):
                report(message)
        except (EOFError, OSError):
            _, how = self._child.ended()
            raise ConversionFailed(
                f"The conversion of {self._entry.title} ended early ({how}); too little memory is the usual reason. It "
                "starts again with the next request."
            ) from None
        self._child.ended()
        if isinstance(message, FalconError):
            raise message

    def stop(self) -> None:
        """Ends it early, from any thread."""
        self._stopped = True
        if self._child:
            self._child.kill()
