"""The program `metawarp`, and `python -m metawarp`. It can be interrupted while its modules are still imported."""

import os
import signal
import sys
from typing import Any, NoReturn

from metawarp.errors import INTERRUPTED

MESSAGE = "metawarp: error: Interrupted."


def main() -> None:
    """Run the command line."""
    try:
        # A KeyboardInterrupt in the middle of an import can become another error, as in numpy's.
        if (usual := signal.getsignal(signal.SIGINT)) is signal.default_int_handler:  # it is ignored in the background
            signal.signal(signal.SIGINT, _end_at_once)
        from metawarp.cli import main as run

        signal.signal(signal.SIGINT, usual)
        run()
    except KeyboardInterrupt:
        print(MESSAGE, file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _end_at_once(*_: Any) -> NoReturn:
    """End the process, which has written nothing yet."""
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
