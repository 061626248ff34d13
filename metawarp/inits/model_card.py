"""The model card: README.md in the folder of a saved init."""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from episodes.errors import InputError, first_line
from episodes.paths import user_path
from episodes.schemas import parsed

_LONG = ("class_names",)
"""Entries of config.json that are too long for a card."""


@dataclass(frozen=True)
class _Accuracy:
    """What a card shows of the results of a method, which have further entries."""

    accuracy: float
    ci95: float


@dataclass(frozen=True)
class ResultsFile:
    """What a card shows of a results.json, which has further entries."""

    protocol: dict[str, Any]
    methods: dict[str, _Accuracy]


def model_card(
    config: Mapping[str, Any], n_numbers: int, results: Mapping[str, Any] | None = None, name: str | None = None
) -> str:
    """A model card in Markdown, from config.json, the number of learned numbers and the results of `evaluate`.

    `name` is the Hub id of the init. Without it, the card names no path, because the init's folder may be moved.
    """
    backbone, model, inner, training = (config[key] for key in ("backbone", "model", "inner", "training"))
    updates = " and ".join(group.replace("_", " ") for group in inner["updates"])
    steps = inner["inner_steps"]
    adapts = f"in {steps} gradient steps on {updates}" if steps else "without gradient steps"
    unchanged = [
        name for name, rate in (("adapter", "lr"), ("read-out weights", "read_out_lr")) if not training.get(rate, 1)
    ]
    fixed = f" The training did not change: {' and '.join(unchanged)}." if unchanged else ""
    if training.get("best_step") == 0:
        fixed = " The training did not raise the validation accuracy, so that the init has the initial values."
    init, method = name or "FOLDER", _code(config["method"])
    on = f"`{_code(backbone['name'])}` ({_code(backbone['fingerprint'])})"
    parts = {name: _code(model[name]) for name in ("template", "read_out", "verbalizer", "adapter")}
    return f"""# A metawarp init

This init has {n_numbers:,} parameters for the frozen backbone {on}. It was
learned by the method `{method}`.{fixed} The template is `{parts["template"]}`, the read-out
`{parts["read_out"]}`, the verbalizer `{parts["verbalizer"]}` and the adapter `{parts["adapter"]}`. A task is adapted
{adapts}.

It is made for text classification from class names and a few examples, for texts like those of the training, in their
language. The probabilities are calibrated for the numbers of classes and shots below; for others, measure them:
`metawarp evaluate --init {init} --corpus yours.csv --split all`.

```python
from metawarp import WarpClassifier

classifier = WarpClassifier("{init}").fit(texts, labels){"" if name else "  # the folder of this file"}
```

| training | |
|---|---|
{_rows(training)}
{_results(results) if results else ""}"""


def read_results(file: str | Path) -> dict[str, Any]:
    """The results.json of `metawarp evaluate`; InputError if the file is missing or something else."""
    try:
        results = json.loads(user_path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"results={str(file)!r} cannot be read: {first_line(error)}") from error
    parsed(ResultsFile, results, f"results={str(file)!r}, which should be a file of `metawarp evaluate`,")
    return results


def _results(results: Mapping[str, Any]) -> str:
    methods = results["methods"].items()
    rows = "".join(
        f"| {markdown_cell(name)} | {100 * of['accuracy']:.1f} ± {100 * of['ci95']:.1f} |\n" for name, of in methods
    )
    return f"""
| protocol | |
|---|---|
{_rows(results["protocol"])}

| method | accuracy in percent, mean ± 95 % interval over episodes |
|---|---|
{rows}"""


def _code(text: object) -> str:
    """A text for the inside of `code` in Markdown."""
    return " ".join(str(text).replace("`", "'").split())


def markdown_cell(text: object) -> str:
    """A text for a cell of a table in Markdown, in which it is shown and not obeyed."""
    escaped = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"[\\|\[\]*]", r"\\\g<0>", escaped).replace("`", "&#96;")


def _rows(facts: Mapping[str, Any]) -> str:
    # JSON shows the tuples of a training like the lists of config.json, so that both have the same card.
    plain = {key: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for key, v in facts.items()}
    shown = {key: value for key, value in plain.items() if key not in _LONG}
    return "\n".join(f"| {markdown_cell(key)} | {markdown_cell(value)} |" for key, value in shown.items())
