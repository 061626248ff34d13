"""The inits that ship with the package, by name."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

GENERAL = "general"
"""Meta-trained on corpora of many domains, for users without an init of their own."""


def shipped_inits() -> dict[str, Path]:
    """The folder of each shipped init, by name; general ones first."""
    folder = Path(str(files("metawarp") / "inits"))
    entries = [entry for entry in folder.iterdir() if (entry / "config.json").is_file()]
    return {entry.name: entry for entry in sorted(entries, key=lambda one: (not is_general(one.name), one.name))}


def is_general(name: str) -> bool:
    """Whether a shipped init is the default of its backbone."""
    return name.split("-")[0] == GENERAL


def describe_init(folder: Path) -> dict[str, Any]:
    """The facts that a user should know about an init before using it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    training, size = config["training"], sum(file.stat().st_size for file in folder.iterdir())
    facts = {"backbone": config["backbone"]["name"], "method": config["method"], "corpora": training["corpus"]}
    facts |= {"training classes": training["classes"]["train"], "kilobytes": round(size / 1000)}
    return facts | {"model card": str(folder / "README.md")}
