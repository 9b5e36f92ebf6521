"""The conversion's process: `python -m falcon_runtime.convert.worker SOCKET NAME RECIPE FOLDER`, started by
`provision.Provisioning`. It sends `Status`es, and at last an error, or None when the model is there."""

import logging
import sys
import warnings
from pathlib import Path
from typing import cast

from ..errors import FalconError
from ..models.manifest import RecipeName
from ..status import Status
from ..system.child import connect
from ..system.imports import import_less
from .conversion import convert


def main() -> None:
    socket, name, recipe, folder = sys.argv[1:]
    warnings.simplefilter("ignore")  # What libraries say of themselves.
    logging.disable(logging.WARNING)
    import_less()
    connection, output = connect(socket), Path(folder)

    def report(status: Status) -> None:
        try:
            connection.send(status)
        except OSError:
            raise SystemExit from None  # The parent has gone, and nobody else wants the model.

    try:
        convert(name, output.parent, cast(RecipeName, recipe), output=output, report=report)
        connection.send(None)
    except FalconError as error:
        connection.send(error)


if __name__ == "__main__":
    main()
