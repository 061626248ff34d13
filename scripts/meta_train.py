"""Meta-train an init on a labelled corpus. The same as `metawarp train`.

The file exists because research code of this field is usually run from a folder `scripts/`, where people look for it.
"""

import sys

from metawarp.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
