"""Measure the tables of a plan. The same as `python -m benchmarks.run`, which is not part of the installed package.

The file exists because research code of this field is usually run from a folder `scripts/`, where people look for it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.run import main  # noqa: E402

if __name__ == "__main__":
    main()
