"""The inits that ship with the package, by name."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

GENERAL = "general"
"""Meta-trained on several corpora of several domains: where no init of one's own is at hand."""


def shipped() -> dict[str, Path]:
    """Folder of each init, by name."""
    folder = Path(str(files("metawarp") / "inits"))
    return {entry.name: entry for entry in sorted(folder.iterdir()) if (entry / "config.json").is_file()}


def describe(folder: Path) -> dict[str, Any]:
    """What is worth knowing of an init before it is used."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    training = config["training"]
    return {
        "backbone": config["backbone"]["name"],
        "method": config["method"],
        "corpora": training["corpus"],
        "classes": training["classes"]["train"],
        "kilobytes": round(sum(file.stat().st_size for file in folder.iterdir()) / 1000),
        "card": str(folder / "README.md"),
    }
