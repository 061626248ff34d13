"""Evaluate an init on classes that it has never seen. The same as `metawarp evaluate`.

The file exists because research code of this field is usually run from a folder `scripts/`, where people look for it.
"""

import sys

from metawarp.cli import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
