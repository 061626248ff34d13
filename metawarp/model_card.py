"""The README.md that lies beside a saved init."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONG = ("class_names",)
"""Entries of the training's description that config.json has and a card for people does without."""


def model_card(config: Mapping[str, Any], numbers: int) -> str:
    """A model card in Markdown.

    Args:
        config: as config.json holds it: "backbone", "warp", "inner", "method" and "training".
        numbers: how many numbers were learned.
    """
    backbone, warp, inner = config["backbone"], config["warp"], config["inner"]
    adapts = "adapts without gradient steps"
    if inner["steps"]:
        adapts = f"adapts in {inner['steps']} gradient steps on {', '.join(inner['groups'])}"
    facts = "\n".join(f"| {key} | {value} |" for key, value in config["training"].items() if key not in LONG)
    return f"""# A metawarp init

{numbers:,} numbers for the frozen backbone `{backbone["name"]}` ({backbone["fingerprint"]}),
learned by `{config["method"]}`.
Template `{warp["template"]}`, read-out `{warp["read_out"]}`, verbalizer rows from `{warp["rows"]}`;
{adapts}.

```python
from metawarp import WarpClassifier
classifier = WarpClassifier(init="this folder").fit(texts, labels)
```

| training | |
|---|---|
{facts}
"""
