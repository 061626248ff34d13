"""The inits that ship with the package, by name."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

GENERAL = "general"
"""Takes no gradient steps: a task is fitted in one pass over its texts."""

ADAPTIVE = "adaptive"
"""Meta-trained to adapt the encoder to a task in a few gradient steps."""


def shipped_inits() -> dict[str, Path]:
    """The folder of each shipped init, by name, in alphabetical order."""
    folder = Path(str(files("metawarp") / "inits"))
    return {entry.name: entry for entry in sorted(folder.iterdir()) if (entry / "config.json").is_file()}


def is_of_kind(name: str, kind: str) -> bool:
    """Whether a shipped init is that of its kind for some backbone, such as "general-mpnet" of `GENERAL`."""
    return name.split("-")[0] == kind


def describe_init(folder: Path) -> dict[str, Any]:
    """The facts that a user should know about an init before using it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    training, size = config["training"], sum(file.stat().st_size for file in folder.iterdir())
    facts = {"backbone": config["backbone"]["name"], "method": config["method"], "corpora": training["corpus"]}
    facts |= {"training classes": training["classes"]["train"], "kilobytes": round(size / 1000)}
    return facts | {"model card": str(folder / "README.md")}
