"""Measure the tables of a plan: `metawarp benchmark`."""

import sys

from metawarp.cli import main

if __name__ == "__main__":
    main(["benchmark", *sys.argv[1:]])
