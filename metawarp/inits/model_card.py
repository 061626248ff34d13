"""The README.md that lies beside a saved init."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from episodes import InputError
from episodes.errors import first_line

LONG = ("class_names",)
"""Entries of the training's description that config.json has and a card for people does without."""


def model_card(
    config: Mapping[str, Any], numbers: int, results: Mapping[str, Any] | None = None, name: str | None = None
) -> str:
    """A model card in Markdown.

    Args:
        config: as config.json holds it: "backbone", "warp", "inner", "method" and "training".
        numbers: how many numbers it has.
        results: what `evaluate` returned, or wrote, of it.
        name: "owner/name", on the Hub; None: a folder, which may be moved.
    """
    backbone, warp, inner = config["backbone"], config["warp"], config["inner"]
    adapts = "adapts without gradient steps"
    if inner["steps"]:
        adapts = f"adapts in {inner['steps']} gradient steps on {', '.join(inner['groups'])}"
    training = config["training"]
    facts = "\n".join(f"| {key} | {_plain(value)} |" for key, value in training.items() if key not in LONG)
    stays = (
        "" if training.get("lr", 1) else " The soft tokens are as they started: what stands around them was learned."
    )
    return f"""# A metawarp init

{numbers:,} numbers for the frozen backbone `{backbone["name"]}` ({backbone["fingerprint"]}),
learned by `{config["method"]}`.{stays}
Template `{warp["template"]}`, read-out `{warp["read_out"]}`, verbalizer rows from `{warp["rows"]}`;
{adapts}.

For text classification from class names and a few examples, of texts like those that it was trained on and in their
language. Probabilities are meant for the numbers of classes and shots below; elsewhere, measure them:
`metawarp evaluate --init {name or "FOLDER"} --corpus yours.csv --split all`.

```python
from metawarp import WarpClassifier

classifier = WarpClassifier("{name or "FOLDER"}").fit(texts, labels){"" if name else "  # the folder of this file"}
```

| training | |
|---|---|
{facts}
{_measured(results) if results else ""}"""


def read_results(file: str | Path) -> dict[str, Any]:
    """The results.json of `metawarp evaluate`.

    Raises:
        InputError: it is not there, or is none.
    """
    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"results {str(file)!r} cannot be read: {first_line(error)}") from error
    if not isinstance(results, dict) or not {"protocol", "methods"} <= set(results):
        raise InputError(f"{str(file)!r} is no results.json of metawarp evaluate; name the file that it wrote.")
    return results


def _measured(results: Mapping[str, Any]) -> str:
    protocol, methods = results["protocol"], results["methods"]
    header = "".join(f"| {key} | {_plain(value)} |\n" for key, value in protocol.items() if key not in LONG)
    rows = "".join(
        f"| {name} | {100 * found['accuracy']:.1f} ± {100 * found['ci95']:.1f} |\n" for name, found in methods.items()
    )
    return f"""
| protocol | |
|---|---|
{header}
| accuracy in percent, mean ± 95 % interval over episodes | |
|---|---|
{rows}"""


def _plain(value: Any) -> str:
    """The same whether it comes from a training or from config.json, where there are no tuples."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
