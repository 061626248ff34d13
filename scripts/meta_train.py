"""Meta-train an init: the same as `metawarp train`."""

import sys

from metawarp.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
