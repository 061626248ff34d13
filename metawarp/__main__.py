"""The program `metawarp`, and `python -m metawarp`. It can be interrupted while its modules are still imported."""

import sys

from metawarp.errors import INTERRUPTED


def main() -> None:
    """Run the command line."""
    try:
        from metawarp.cli import main as run

        run()
    except KeyboardInterrupt:
        print("metawarp: error: Interrupted.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
