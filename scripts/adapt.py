"""Adapt an init to a new task. The same as `metawarp fit`.

The file exists because research code of this field is usually run from a folder `scripts/`, where people look for it.
"""

import sys

from metawarp.cli import main

if __name__ == "__main__":
    main(["fit", *sys.argv[1:]])
