"""The tables of the README and of docs/ are those that the measured files make."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


FILES = ["README.md", "docs/backbones.md", "docs/engine.md", "docs/forms.md", "docs/results.md"]


@pytest.mark.parametrize("file", FILES)
def test_every_table_is_that_of_its_file(tmp_path, file):
    for name in ("benchmarks", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    subprocess.run([sys.executable, ROOT / "scripts" / "write_tables.py"], cwd=tmp_path, check=True)
    assert (tmp_path / file).read_text(encoding="utf-8") == (ROOT / file).read_text(encoding="utf-8")
    assert "|---|" in (tmp_path / file).read_text(encoding="utf-8")
