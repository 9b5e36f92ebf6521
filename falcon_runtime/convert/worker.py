"""The conversion's process: `python -m falcon_runtime.convert.worker SOCKET NAME RECIPE FOLDER`, started by
`provision.Provisioning`. It sends `Status`es, and at last an error, or None when the model is there."""

import sys
from pathlib import Path
from typing import cast

from ..child import connect
from ..errors import FalconError
from ..manifest import RecipeName
from ..notes import set_notes
from ..status import Status
from .conversion import convert


def main() -> None:
    socket, name, recipe, folder = sys.argv[1:]
    set_notes(quiet=True, verbose=False)
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
