"""Adapt an init to a new task: the same as `metawarp fit`."""

import sys

from metawarp.cli import main

if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
