"""The tutorial goes from a CSV file to an answer of its own server."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "tutorial.py"


@pytest.mark.slow
def test_it_goes_from_a_csv_to_a_served_prediction(tmp_path):
    (tmp_path / "few.csv").write_text(
        'text,label\nwhere is my parcel,delivery\n"late, and no word",delivery\npay me back,refund\n', encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, SCRIPT, "--csv", tmp_path / "few.csv"], capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "3 texts of 2 classes" in done.stdout
    assert '"label": "delivery"' in done.stdout
