"""Measure an init on unseen classes: the same as `metawarp evaluate`."""

import sys

from metawarp.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
